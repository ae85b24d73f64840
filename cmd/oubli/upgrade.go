package main

import "github.com/spf13/cobra"

func (a *app) upgradeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "upgrade",
		Short: "Bring the keystore's schema to this version",
		Long: `Brings the tables of a keystore in PostgreSQL, which an older version made, to this
one, in one transaction. Tables of this version stay as they are. Upgrade the processes
that use the keystore afterwards: an older oubli refuses the newer schema.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			at, err := a.location()
			if err != nil {
				return err
			}
			done, err := at.upgrade(c.Context())
			if err == nil {
				a.say("%s", done)
			}
			return err
		},
	}
}
