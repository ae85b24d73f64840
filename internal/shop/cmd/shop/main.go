// Command shop serves the music shop of package shop. It needs a database with an empty
// schema for the first start, a keystore in it and a root:
//
//	oubli --keystore postgres://localhost/shop --root file:shop.root init
//	shop -database postgres://localhost/shop -root shop.root -create
package main

import (
	"context"
	"flag"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/internal/shop"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(ctx, log); err != nil {
		log.Error("shop ends", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, log *slog.Logger) error {
	database := flag.String("database", "postgres://localhost/shop", "URL of the database")
	root := flag.String("root", "shop.root", "file of the root key; several, with commas between them, are mirrors")
	listen := flag.String("listen", "127.0.0.1:8080", "address to serve")
	newsletter := flag.String("newsletter", "http://127.0.0.1:8081/unsubscribe", "URL to call before a subscriber is erased")
	create := flag.Bool("create", false, "make the tables first")
	flag.Parse()
	if *create {
		pool, err := pgxpool.New(ctx, *database)
		if err != nil {
			return err
		}
		err = shop.CreateTables(ctx, pool)
		pool.Close()
		if err != nil {
			return err
		}
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	log.Info("shop serves", "address", l.Addr().String())
	return shop.Serve(ctx, l, shop.Config{Database: *database, Root: strings.Split(*root, ","), Options: shop.Options{
		NewsletterURL: *newsletter,
		Worker:        host + " " + *listen, // the same after a restart
		Logger:        log,
	}})
}
