package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/keystore"
)

func (a *app) rootCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "root",
		Short: "The root keys: where they are, when they die, and whether they really do",
		Long: `The root keys stand in the place that --root names, outside of the keystore:

  file:PATH[,file:PATH]                     files on this host, one or several mirrors
  transit:https://HOST:8200/MOUNT/KEY?kv=MOUNT/PATH
                                            Vault's or OpenBao's transit engine, and its KV engine
                                            (version 2) as the shelf; as Vault's own client, it
                                            takes VAULT_TOKEN, VAULT_CACERT, VAULT_NAMESPACE …
  awskms:REGION?shelf=URL                   AWS KMS
  gcpkms:projects/P/locations/L/keyRings/R/cryptoKeys/K?shelf=URL
                                            Google Cloud KMS
  pkcs11:token=LABEL?module-path=PATH&pin-source=file:PATH&shelf=URL
                                            a hardware security module, or another PKCS#11 token

The last three are built in with go build -tags awskms,gcpkms,pkcs11. Their shelf, where
the wrapped roots stand, is what comes last: postgres://USER@HOST/DATABASE for many hosts,
or bolt:PATH for one process. It is never the keystore's own, for the two must not come
back from a backup together. Its password stands in ~/.pgpass, best: what --to is given is
seen in the list of processes. With copies=720h before it (for transit: anywhere) an erasure
is final that much later: for as long as copies of the service's storage are kept.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("oubli root has no command %q: move, status, rehearse and policy are there", args[0])
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			return usagef("oubli root move, status, rehearse or policy?")
		},
	}
	c.AddCommand(a.rootMoveCommand(), a.rootStatusCommand(), a.rehearseCommand(), a.policyCommand())
	return c
}

func (a *app) rootMoveCommand() *cobra.Command {
	var to string
	c := &cobra.Command{
		Use:   "move [--to URL]",
		Short: "Move the root to another place, or accept where it now stands",
		Long: `With --to, moves the root of a living keystore from --root to another place, of the same
kind or another: the roots are written there, the keystore names it, the old place is
destroyed. Where that takes time, as in some clouds, nothing is final until it is over;
it is said when, and the same command then finishes it. One that was interrupted is
finished by the same command as well. Try the new place first with
"oubli root rehearse --root URL".

Processes that share the keystore and were told of the new place beforehand, in Go with
keystore.Options.NextRoots and here with --root-next, go on without a pause. Others
refuse to write until they are started again with it.

Without --to, accepts that root files were brought to this host or to the path of --root
by hand, on purpose, or finishes a move that was interrupted, with --root-next naming the
other place if that needs more than "oubli root status" shows of it. Where files came from,
no copy of them may be left: what lives there opens old backups for good.

To add a mirror to root files, or to replace a lost one: end the application, copy PATH
and PATH.anchor of a good mirror to the new place, name all mirrors with --root, and call
this without --to. To give a lost mirror up, name those that are left.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return withHint(usagef("oubli root move takes no arguments, got %d", len(args)), "the new place of the root is named with --to")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if !c.Flags().Changed("to") {
				return a.adoptRoot(c.Context())
			}
			return a.moveRoot(c.Context(), to)
		},
	}
	c.Flags().StringVar(&to, "to", "", "the new place of the root")
	return c
}

// moveRoot moves the root to the place at url, from whatever step an earlier call has left.
func (a *app) moveRoot(ctx context.Context, url string) (err error) {
	to, err := a.newRootStore(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.giveUp(ctx)) }()
	is, found := to.Load(ctx)
	from := to
	if a.rootURL != url { // else its shelf may be locked by now
		if from, err = a.rootStore(ctx, a.rootURL, writing); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, from.Close()) }()
	}
	at, err := a.location()
	if err != nil {
		return err
	}
	keys, b, err := a.openAt(ctx, at, from, to, writing)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()
	a.warnOfOneDatabase(to, b)
	h, err := keys.Health(ctx)
	if err != nil {
		return err
	}
	there := to.Place().URL
	switch {
	case h.Moving != there && h.Root.URL != there && (errors.Is(found, keystore.ErrMismatch) || errors.Is(found, keystore.ErrUnavailable)):
		return found // no place for a root, or none now: a move that had begun would keep everything from being final
	case h.Moving != "" && h.Root.URL == there:
		err = a.finishMove(ctx, keys, h.Moving, from)
	case h.Root.URL == there:
		a.say("nothing to do: the root is in %s already", there)
		return nil
	default:
		if h.Moving == there { // it got no further than to copy the roots, which may have changed
			err = keys.FinishMove(ctx, to)
		}
		if err == nil {
			err = keys.MoveRoots(ctx, to)
		}
	}
	if err != nil {
		if h, unread := keys.Health(ctx); unread == nil && h.Moving != "" && (h.Moving == there || h.Root.URL == there) {
			return withHint(err, "the same command again goes on from there")
		}
		if info, unread := keys.Info(ctx); unread == nil && errors.Is(err, keystore.ErrExists) && found == nil && is.Store == info.ID {
			return withHint(err, "if that is where this keystore's root is, by another name: oubli root move, with the new name in --root and without --to, accepts it")
		}
		return err
	}
	a.say("the root is now in %s; give --root or OUBLI_ROOT what --to was given", there)
	return nil
}

// adoptRoot finishes a move that was interrupted, or accepts where the root stands.
func (a *app) adoptRoot(ctx context.Context) error {
	done := false
	err := a.withKeystore(ctx, writing, func(keys *openKeystore) error {
		h, err := keys.Health(ctx)
		if err != nil {
			return err
		}
		done = true // it opened: the keystore names this very host and place
		if h.Moving == "" {
			a.say("nothing to do: the keystore's root is here already; it stays where it is")
			return nil
		}
		return a.finishMove(ctx, keys.Store, h.Moving, keys.next)
	})
	if done || err != nil && !errors.Is(err, keystore.ErrMismatch) {
		return err
	}
	at, err := a.location()
	if err != nil {
		return err
	}
	root, err := a.rootStore(ctx, a.rootURL, writing)
	if err != nil {
		return err
	}
	b, err := at.open(ctx, writing)
	if err != nil {
		return errors.Join(err, root.Close())
	}
	if err := errors.Join(keystore.AdoptRoots(ctx, b, root), b.Close(), root.Close()); err != nil {
		return err
	}
	if root.file == nil {
		a.say("the keystore names %s now", root.name())
		return nil
	}
	a.say("the root belongs to this host now, in %s", root.Place().URL)
	a.warn("wipe every copy of it on the host or path that it came from")
	return nil
}

// finishMove destroys what an unfinished move has left at the place that is recorded as
// moving. known, unless nil, is one of the places that the user has named in full.
func (a *app) finishMove(ctx context.Context, keys *keystore.Store, moving string, known *root) (err error) {
	if known == nil || known.Place().URL != moving {
		if known, err = a.rootStore(ctx, moving, writing); err != nil {
			return withHint(err, "name %s in full with --root-next, with what is needed to open it", moving)
		}
		defer func() { err = errors.Join(err, known.Close()) }()
	}
	if err := keys.FinishMove(ctx, known); err != nil {
		return err
	}
	a.say("the move is finished: %s holds no root any more", moving)
	return nil
}
