package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

func (a *app) adoptCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "adopt",
		Short: "Take in a PostgreSQL database that is full of plaintext",
		Long: `Seals the personal columns of existing tables, as the data map names them, while the
application works, and keeps them sealed afterwards. In this order:

  oubli adopt plan --write-map oubli.yaml   proposes a data map; correct it by hand
  oubli adopt plan                          says what would change and what is in the way
  oubli adopt run --only-widen              makes the columns wide enough
    then let the application read and write through codecs, its columns declared Adopting;
    if oubli adopt verify calls what it wrote NOT AUTHENTIC, map and structs differ
  oubli adopt run                           seals what is there
  oubli adopt verify                        every value opens for its person
  oubli adopt enforce                       from now on the columns take nothing else

oubli adopt undo leads back from anywhere.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return withHint(usagef("unknown command %q", "adopt "+args[0]), "oubli adopt --help lists the commands")
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error {
			c.SetOut(a.err)
			c.Help()
			return usagef("a command is needed")
		},
	}
	c.AddCommand(a.adoptPlanCommand(), a.adoptRunCommand(), a.adoptVerifyCommand(), a.adoptEnforceCommand(), a.adoptUndoCommand())
	return c
}

func (a *app) adoptPlanCommand() *cobra.Command {
	var asJSON bool
	var file string
	c := &cobra.Command{
		Use:   "plan",
		Short: "What would change, and what is in the way",
		Long: `Looks at the tables of the data map and changes nothing: what becomes of each column and
of what depends on it, how long it may take, what must be put right first, and columns that
look personal and are not in the map. Exits 1 if something is in the way. Needs no keystore.

With --write-map it proposes a data map instead, from the names of columns and samples of
what they hold, for a person to correct. Nothing that was sampled is written down.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			if file != "" {
				return a.writeMap(c.Context(), file)
			}
			return a.withTables(c.Context(), func(t *tables) error { return a.adoptPlan(c.Context(), t, asJSON) })
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	c.Flags().StringVar(&file, "write-map", "", "write a proposal of a data map to this file, which must not be there yet (- is standard output)")
	return c
}

func (a *app) adoptPlan(ctx context.Context, t *tables, asJSON bool) error {
	plan, err := pgadopt.MakePlan(ctx, t.db, t.m)
	if err != nil {
		return err
	}
	if asJSON {
		err = json.NewEncoder(a.out).Encode(plan)
	} else {
		err = plan.Write(a.out)
	}
	if err != nil {
		return err
	}
	return blocked(plan, false)
}

// blocked is the error of a plan that cannot be carried out. With named, it names what is
// in the way.
func blocked(plan *pgadopt.Plan, named bool) error {
	in := plan.Blocked()
	if len(in) == 0 {
		return nil
	}
	err := fmt.Errorf("nothing was changed: %s in the way", count(len(in), "thing stands", "things stand"))
	if named {
		for _, f := range in {
			err = fmt.Errorf("%w\n%s", err, f)
		}
		return withHint(err, "oubli adopt plan says more")
	}
	return withHint(err, "put them right, or leave the column or table out of the data map")
}

// count writes a number of things.
func count[N int | int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func (a *app) adoptRunCommand() *cobra.Command {
	var onlyWiden bool
	var purpose string
	c := &cobra.Command{
		Use:   "run",
		Short: "Make the columns wide enough, and seal what is there",
		Long: `First does to the columns what the plan says, a short lock for each table; a column whose
type changes, as a date does, is rewritten under it. Then seals the plaintext in small
batches, while the application works. It may be stopped and killed: the same command goes on
where it was. Rows that change meanwhile are read again. Ends when no plaintext is found.
Sealing is an UPDATE of each row: triggers on it fire.

Whatever reads the tables must know envelopes before the first value is sealed: run it with
--only-widen first, and then bring out an application that reads and writes through codecs
whose columns are declared Adopting.

People who are restricted are left alone but with --purpose; so are people who are being
erased, and plaintext of erased people, for which there is "oubli reconcile --plaintext".`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx := forPurpose(c.Context(), purpose)
			return a.withTables(ctx, func(t *tables) error { return a.adoptRun(ctx, t, onlyWiden) })
		},
	}
	c.Flags().BoolVar(&onlyWiden, "only-widen", false, "change the columns, and seal nothing yet")
	c.Flags().StringVar(&purpose, "purpose", "", "what for: seals also people who are restricted to this purpose")
	return c
}

func forPurpose(ctx context.Context, purpose string) context.Context {
	if purpose == "" {
		return ctx
	}
	return keystore.WithPurpose(ctx, purpose)
}

func (a *app) adoptRun(ctx context.Context, t *tables, onlyWiden bool) error {
	a.walks()
	plan, err := pgadopt.MakePlan(ctx, t.db, t.m)
	if err != nil {
		return err
	}
	if err := blocked(plan, true); err != nil {
		return err
	}
	for _, table := range t.list {
		if err := pgadopt.Widen(ctx, t.db, table, plan); err != nil {
			return err
		}
	}
	if onlyWiden {
		a.say("%s take envelopes now; nothing is sealed yet", count(len(t.list), "table's columns", "tables' columns"))
		return nil
	}
	if t.list, err = pgmap.Load(ctx, t.db, t.m); err != nil { // widening changed the columns
		return err
	}
	return a.withStore(ctx, writing, func(keys *keystore.Store) error {
		show, end := a.adoptProgress()
		report, err := pgadopt.Run(ctx, pgadopt.Config{DB: t.db, Keys: keys, Tables: t.list, Progress: show})
		end()
		a.sayRun(report)
		return resumable(ctx, err)
	})
}

// resumable says how to go on after an interrupt.
func resumable(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return withHint(errors.New("interrupted; what was done stands"), "the same command again does the rest")
	}
	return err
}

func (a *app) adoptVerifyCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Every value of every mapped column opens for its person",
		Long: `Reads all rows of the tables of the data map, and changes nothing. Counts what stands in
each column; exits 1 if there is plaintext, or a value that does not open for its person.
Plaintext after a run was written since, by a program without a codec.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.verifyTables(c.Context(), a.withTables, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

func (a *app) verifyTables(ctx context.Context, with func(context.Context, func(*tables) error) error, asJSON bool) error {
	a.walks()
	return with(ctx, func(t *tables) error {
		return a.withStore(ctx, reading, func(keys *keystore.Store) error { return a.adoptVerify(ctx, keys, t, asJSON) })
	})
}

func (a *app) adoptVerify(ctx context.Context, keys *keystore.Store, t *tables, asJSON bool) error {
	show, end := a.adoptProgress()
	report, err := pgadopt.Verify(ctx, pgadopt.Config{DB: t.db, Keys: keys, Tables: t.list, Progress: show})
	end()
	if err != nil && len(report.Tables) == 0 {
		return err
	}
	if asJSON {
		return errors.Join(err, json.NewEncoder(a.out).Encode(report))
	}
	p := &printer{w: a.out}
	p.verified(report)
	for _, t := range report.Tables {
		a.sayNamed(t.Table, t.Named)
	}
	return errors.Join(err, p.err)
}

func (a *app) adoptEnforceCommand() *cobra.Command {
	var yes, asJSON bool
	c := &cobra.Command{
		Use:   "enforce",
		Short: "From now on the columns take only envelopes, blanks and NULL",
		Long: `Gives the personal columns a domain that refuses plaintext, whoever writes it. Each table
is rewritten under a lock that keeps everybody out meanwhile, so that no dead row keeps
plaintext; the database's own statistics are made anew. Verifies first, as "oubli adopt
verify" does, and refuses what that finds.

Then names what still holds it: backups and WAL from before, and what is outside this
database. What is done is not done again: the same command goes on after a failure.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx := c.Context()
			return a.withTables(ctx, func(t *tables) error {
				if err := a.sure(ctx, yes, "This rewrites the tables of the data map, and locks each meanwhile.", "enforce"); err != nil {
					return err
				}
				return a.adoptEnforce(ctx, t, asJSON)
			})
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

func (a *app) adoptEnforce(ctx context.Context, t *tables, asJSON bool) error {
	a.walks()
	err := a.withStore(ctx, reading, func(keys *keystore.Store) error {
		show, end := a.adoptProgress()
		defer end()
		_, err := pgadopt.Verify(ctx, pgadopt.Config{DB: t.db, Keys: keys, Tables: t.list, Progress: show})
		return err
	})
	if err != nil {
		return withHint(err, "nothing was changed; oubli adopt run seals plaintext, oubli adopt verify names what is wrong")
	}
	end := a.wait("rewriting")
	report, err := pgadopt.Enforce(ctx, t.db, t.list, pgadopt.EnforceOptions{})
	end()
	if err == nil && !report.Clean() {
		err = withHint(errors.New("the columns are enforced, and plaintext may be left in the files of the database"), "see to what is named NOT DONE, and run it again")
	}
	if asJSON {
		return errors.Join(json.NewEncoder(a.out).Encode(report), err)
	}
	return errors.Join(report.Write(a.out), err)
}

// sure asks before something that is felt by others.
func (a *app) sure(ctx context.Context, yes bool, what, answer string) error {
	if yes {
		return nil
	}
	if !a.asks {
		return withHint(usagef("there is no terminal to ask on"), "--yes does not ask")
	}
	ok, err := a.ask(ctx, what, answer)
	if err == nil && !ok {
		err = errors.New("not confirmed; nothing was changed")
	}
	return err
}

func (a *app) adoptUndoCommand() *cobra.Command {
	var yes bool
	var purpose string
	c := &cobra.Command{
		Use:   "undo",
		Short: "Back to plaintext, and to the types and constraints of before",
		Long: `Opens what is sealed and puts plaintext in its place, from wherever the adoption stands;
then gives the columns their types, defaults, constraints, indexes and views back. What was
erased stays so: what the data map leaves, or NULL. It may be stopped and killed, like run.

Before anything is changed it looks for what cannot be put back; a replacement that does not
fit can be changed in the data map. An application whose columns are declared Adopting goes
on meanwhile; stop it at the end, and bring out one without codecs: what a codec writes after
that is an envelope still.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx := forPurpose(c.Context(), purpose)
			return a.withTables(ctx, func(t *tables) error {
				if err := a.sure(ctx, yes, "This puts personal data back in the clear.", "undo"); err != nil {
					return err
				}
				return a.adoptUndo(ctx, t)
			})
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().StringVar(&purpose, "purpose", "", "what for: opens also people who are restricted to this purpose")
	return c
}

// adoptUndo undoes the adoptions that there are: those of some tables may be undone already.
func (a *app) adoptUndo(ctx context.Context, t *tables) error {
	a.walks()
	begun := slices.DeleteFunc(slices.Clone(t.list), func(table *pgmap.Table) bool { return t.records[table.Map.Table] == nil })
	if len(begun) == 0 {
		a.say("no table of %s is adopted; nothing is to be undone", a.mapFile)
		return nil
	}
	return a.withStore(ctx, reading, func(keys *keystore.Store) error {
		show, end := a.adoptProgress()
		report, err := pgadopt.Undo(ctx, pgadopt.Config{DB: t.db, Keys: keys, Tables: begun, Progress: show})
		end()
		a.sayUndone(report)
		return resumable(ctx, err)
	})
}
