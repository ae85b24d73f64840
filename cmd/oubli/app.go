package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// app is what the commands share.
type app struct {
	*ui
	keystoreURL string
	rootURL     string
	host        string
	mapFile     string
	allowAt     bool
}

func newApp(u *ui) *app { return &app{ui: u} }

func (a *app) run(ctx context.Context, args []string) error {
	root := &cobra.Command{
		Use:   "oubli",
		Short: "Forget a person by destroying a key",
		Long: `oubli keeps every person's data under that person's own key. To erase a person is
to destroy the key: every copy of the data goes dark, backups included, and the rows
stay for statistics.

Start with "oubli demo", which shows it on real data, then "oubli init".`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return withHint(usagef("unknown command %q", args[0]), "oubli --help lists the commands")
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error {
			c.SetOut(a.err)
			c.Help()
			return usagef("a command is needed")
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return withHint(usageError{err}, "%s --help", c.CommandPath())
	})
	f := root.PersistentFlags()
	f.StringVar(&a.keystoreURL, "keystore", fromEnv("OUBLI_KEYSTORE", "bolt:oubli.keys"), "the keystore, bolt:PATH (or OUBLI_KEYSTORE)")
	f.StringVar(&a.rootURL, "root", fromEnv("OUBLI_ROOT", "file:oubli.root"), "the root keys, file:PATH[,file:PATH] (or OUBLI_ROOT)")
	f.StringVar(&a.host, "host", fromEnv("OUBLI_HOST", ""), "the name of this host, where the machine's own will not do, as in containers (or OUBLI_HOST)")
	f.StringVar(&a.mapFile, "map", "oubli.yaml", "the data map")
	f.BoolVar(&a.allowAt, "allow-at", false, "accept ids with an @")
	root.AddCommand(
		a.initCommand(), a.sealCommand(), a.openCommand(), a.anonymizeCommand(),
		a.restrictCommand(), a.releaseCommand(), a.cancelCommand(), a.readmitCommand(), a.retireCommand(),
		a.exportCommand(), a.rotateCommand(), a.restoreCommand(), a.rootCommand(),
		a.statusCommand(), a.verifyCommand(), a.demoCommand(),
	)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

func fromEnv(name, standard string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return standard
}

// between checks the number of arguments: at least min, at most max if that is not
// negative. what names them.
func between(min, max int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) >= min && (max < 0 || len(args) <= max) {
			return nil
		}
		msg := fmt.Sprintf("%s takes %s, got %d arguments", c.CommandPath(), what, len(args))
		return withHint(usagef("%s", msg), "%s --help", c.CommandPath())
	}
}
