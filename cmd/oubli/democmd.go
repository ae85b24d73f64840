package main

import (
	"github.com/spf13/cobra"

	"github.com/oubli/oubli/cmd/oubli/internal/demo"
)

func (a *app) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "The whole story on real data, narrated",
		Long: `Shows in a temporary folder, on the customers and invoices of the Chinook music shop,
what oubli is for, and checks every claim as it goes. Exits 1 if one does not hold.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return demo.Run(c.Context(), a.out) },
	}
}
