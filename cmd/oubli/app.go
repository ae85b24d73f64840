package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// app is what the commands share.
type app struct {
	*ui
	keystoreURL string // it may hold a password
	schema      string
	standbys    []string
	rootURL     string
	nextURL     string // of another place for the root
	host        string
	db          string // the application's; it may hold a password
	mapFile     string
	allowAt     bool
	cacheSize   int // of the keystore; 0: the usual
	root        *cobra.Command
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
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		if a.given("db") != "" && !worksOnTables(c) {
			return withHint(usagef("%s does not work on the tables of a database: --db says nothing to it", c.CommandPath()), "leave --db out")
		}
		return nil
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return withHint(usageError{err}, "%s --help", c.CommandPath())
	})
	a.root = root
	f := root.PersistentFlags()
	a.setting(&a.keystoreURL, "keystore", "OUBLI_KEYSTORE", "bolt:oubli.keys", "the keystore, bolt:PATH or postgres://USER@HOST/DATABASE, with the password in PGPASSWORD or ~/.pgpass")
	a.setting(&a.schema, "keystore-schema", "OUBLI_KEYSTORE_SCHEMA", "oubli", "the PostgreSQL schema of the keystore's tables")
	f.StringSliceVar(&a.standbys, "keystore-standby", namesFromEnv("OUBLI_KEYSTORE_STANDBY"), "a PostgreSQL standby, by its application_name, that must have replayed an epoch before older roots die, the same for all who write; repeat it, or write a list (or OUBLI_KEYSTORE_STANDBY)")
	f.Lookup("keystore-standby").DefValue = "[]"
	a.setting(&a.rootURL, "root", "OUBLI_ROOT", "file:oubli.root", "the root keys, file:PATH[,file:PATH], or a service: see oubli root --help")
	a.setting(&a.nextURL, "root-next", "OUBLI_ROOT_NEXT", "", "another place to which the root may be moved meanwhile, or from which it was")
	a.setting(&a.host, "host", "OUBLI_HOST", "", "the name of this host, where the machine's own will not do, as in containers")
	a.setting(&a.db, "db", "OUBLI_DB", "", "the application's database, postgres://USER@HOST/DATABASE, for commands that work on its tables")
	f.StringVar(&a.mapFile, "map", "oubli.yaml", "the data map")
	f.BoolVar(&a.allowAt, "allow-at", false, "accept ids with an @")
	root.AddCommand(
		a.initCommand(), a.sealCommand(), a.openCommand(), a.adoptCommand(), a.anonymizeCommand(),
		a.restrictCommand(), a.releaseCommand(), a.cancelCommand(), a.readmitCommand(), a.retireCommand(),
		a.exportCommand(), a.rotateCommand(), a.restoreCommand(), a.reconcileCommand(), a.upgradeCommand(), a.advanceCommand(), a.rootCommand(),
		a.statusCommand(), a.verifyCommand(), a.serveCommand(), a.demoCommand(),
	)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

// worksOnTables tells whether a command knows --db.
func worksOnTables(c *cobra.Command) bool {
	for c.HasParent() && c.Parent().HasParent() {
		c = c.Parent()
	}
	return slices.Contains([]string{"adopt", "anonymize", "export", "open", "reconcile", "serve", "status", "verify"}, c.Name())
}

// setting is a flag that the environment can set as well. The help names the standard,
// not what the environment holds, which may be a password.
func (a *app) setting(p *string, flag, env, standard, usage string) {
	value := standard
	if v := os.Getenv(env); v != "" {
		value = v
	}
	f := a.root.PersistentFlags()
	f.StringVar(p, flag, value, usage+" (or "+env+")")
	f.Lookup(flag).DefValue = standard
}

func namesFromEnv(env string) []string {
	return strings.FieldsFunc(os.Getenv(env), func(r rune) bool { return r == ',' })
}

// given returns the first of the flags that stands on the command line, or "".
func (a *app) given(flags ...string) string {
	for _, name := range flags {
		if a.root.PersistentFlags().Changed(name) {
			return name
		}
	}
	return ""
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
