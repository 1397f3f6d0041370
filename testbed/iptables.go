package testbed

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// chain is a chain of one table of iptables.
type chain struct {
	table, name string
}

func (c chain) String() string { return c.table + " " + c.name }

// rule is one line of iptables-save that appends to a chain.
type rule struct {
	chain

	args []string // after "-A CHAIN"
}

// iptablesFamilies are the programs for IPv4 and IPv6; kubelet uses both.
func iptablesFamilies() []string { return []string{"iptables", "ip6tables"} }

// readIptables lists all chains and rules of one family.
func readIptables(family string) ([]chain, []rule, error) {
	out, err := exec.CommandContext(context.Background(), family+"-save").Output()
	if err != nil {
		return nil, nil, fmt.Errorf("list rules: %s-save: %w", family, err)
	}
	chains, rules := parseIptables(string(out))
	return chains, rules, nil
}

func parseIptables(save string) (chains []chain, rules []rule) {
	table := ""
	for line := range strings.Lines(save) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case strings.HasPrefix(fields[0], "*"):
			table = fields[0][1:]
		case strings.HasPrefix(fields[0], ":"):
			chains = append(chains, chain{table, fields[0][1:]})
		case fields[0] == "-A" && len(fields) > 1:
			rules = append(rules, rule{chain{table, fields[1]}, splitRule(line)})
		}
	}
	return chains, rules
}

// splitRule takes "-A CHAIN" off a rule and its quotes away, as a shell would:
// the CNI plugins put comments in quotes.
func splitRule(line string) []string {
	var args []string
	var arg strings.Builder
	quoted, escaped, open := false, false, false
	for _, r := range strings.TrimSpace(line) {
		switch {
		case escaped:
			arg.WriteRune(r)
			escaped = false
		case r == '\\' && quoted:
			escaped = true
		case r == '"':
			quoted, open = !quoted, true
		case r == ' ' && !quoted:
			if open {
				args = append(args, arg.String())
				arg.Reset()
			}
			open = false
		default:
			arg.WriteRune(r)
			open = true
		}
	}
	if open {
		args = append(args, arg.String())
	}
	return args[2:]
}

// removeChains deletes the chains that kubelet and the CNI plugins added and the
// rules that lead to them. Chains and rules of others stay as they are.
func (st *state) removeChains() error {
	var errs []error
	for _, family := range iptablesFamilies() {
		chains, rules, err := readIptables(family)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ours := slices.DeleteFunc(chains, func(c chain) bool {
			foreign := !strings.HasPrefix(c.name, "KUBE-") && !strings.HasPrefix(c.name, "CNI-")
			return foreign || slices.Contains(st.Chains, family+" "+c.String())
		})
		for _, args := range removal(ours, rules) {
			errs = append(errs, command(family, args...))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove rules: %w", err)
	}
	return nil
}

// removal returns the commands that delete chains: first the rules in other
// chains that jump to them, then their own rules, then themselves.
func removal(chains []chain, rules []rule) [][]string {
	var cmds [][]string
	for _, r := range rules {
		jump := slices.Index(r.args, "-j")
		if jump < 0 || jump+1 >= len(r.args) || slices.Contains(chains, r.chain) {
			continue
		}
		if slices.Contains(chains, chain{r.table, r.args[jump+1]}) {
			cmds = append(cmds, append([]string{"-t", r.table, "-D", r.name}, r.args...))
		}
	}
	for _, flag := range []string{"-F", "-X"} {
		for _, c := range chains {
			cmds = append(cmds, []string{"-t", c.table, flag, c.name})
		}
	}
	return cmds
}
