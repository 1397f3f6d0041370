package testbed

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// pki is the cluster's certificates, keys and tokens, as files in one folder.
type pki struct {
	dir    string
	caCert *x509.Certificate
	caKey  *ecdsa.PrivateKey
	caFile string
	pool   *x509.CertPool

	adminToken string
	nodeToken  string
	tokenFile  string // for kube-apiserver
}

func (p *pki) cert(name string) string { return filepath.Join(p.dir, name+".crt") }
func (p *pki) key(name string) string  { return filepath.Join(p.dir, name+".key") }

// writePKI makes everything new. It lives as long as the run, so nothing is
// renewed.
func writePKI(dir, nodeName string) (*pki, error) {
	p := &pki{dir: dir, caFile: filepath.Join(dir, "ca.crt"), tokenFile: filepath.Join(dir, "tokens.csv")}
	if err := p.writeAll(nodeName); err != nil {
		return nil, fmt.Errorf("make certificates: %w", err)
	}
	return p, nil
}

func (p *pki) writeAll(nodeName string) error {
	if err := p.writeCA(); err != nil {
		return err
	}
	apiserver := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost",
		},
		IPAddresses: []net.IP{net.ParseIP(apiServerIP), net.ParseIP(nodeIP), net.IPv4(127, 0, 0, 1)},
	}
	if err := p.writeCert("kube-apiserver", apiserver); err != nil {
		return err
	}
	kubelet := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "system:node:" + nodeName, Organization: []string{"system:nodes"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{nodeName},
		IPAddresses: []net.IP{net.ParseIP(nodeIP)},
	}
	if err := p.writeCert("kubelet", kubelet); err != nil {
		return err
	}
	// With this one kube-apiserver fetches logs from kubelet.
	client := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if err := p.writeCert("kubelet-client", client); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := p.writeKey("service-account", key); err != nil {
		return err
	}
	return p.writeTokens(nodeName)
}

func (p *pki) writeCA() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "testbed-ca"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	p.caCert, p.caKey = template, key
	der, err := p.sign(template, key)
	if err != nil {
		return err
	}
	if p.caCert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	p.pool = x509.NewCertPool()
	p.pool.AddCert(p.caCert)
	return writePEM(p.caFile, "CERTIFICATE", der)
}

func (p *pki) writeCert(name string, template *x509.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := p.sign(template, key)
	if err != nil {
		return err
	}
	if err := writePEM(p.cert(name), "CERTIFICATE", der); err != nil {
		return err
	}
	return p.writeKey(name, key)
}

func (p *pki) sign(template *x509.Certificate, key *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	// An hour back, should a test set the clock.
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(7 * 24 * time.Hour)
	return x509.CreateCertificate(rand.Reader, template, p.caCert, &key.PublicKey, p.caKey)
}

func (p *pki) writeKey(name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(p.key(name), "EC PRIVATE KEY", der)
}

// writeTokens makes kube-apiserver's list of static tokens: an administrator,
// whom the controllers and the scheduler are too, and the node.
func (p *pki) writeTokens(nodeName string) error {
	p.adminToken, p.nodeToken = rand.Text(), rand.Text()
	text := fmt.Sprintf("%s,admin,admin,%q\n%s,system:node:%s,node,%q\n",
		p.adminToken, "system:masters", p.nodeToken, nodeName, "system:nodes")
	return os.WriteFile(p.tokenFile, []byte(text), 0o600)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// writeKubeconfig writes a client's configuration.
func writeKubeconfig(path, server, caFile, token string) error {
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: testbed
clusters:
- name: testbed
  cluster: {server: %q, certificate-authority: %q}
contexts:
- name: testbed
  context: {cluster: testbed, user: testbed}
users:
- name: testbed
  user: {token: %q}
`, server, caFile, token)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}
