package main

import (
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) policyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "policy URL",
		Short: "What an administrator sets up for a root in a service",
		Long: `Prints, for a root that is to stand at URL, what the administrator of the service does once,
and the policy that the application is given. With more rights than these, the application,
or who breaks into it, could bring destroyed roots back, or make keys where an administrator
deleted them. Nothing is asked or changed.`,
		Args: between(1, 1, "one URL"),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := rootPolicy(args[0])
			if err != nil {
				return err
			}
			p := &printer{w: a.out}
			p.line("%s", strings.TrimRight(text, "\n"))
			return p.err
		},
	}
}
