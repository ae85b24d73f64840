package model

import (
	"testing"
	"time"
	"fmt"
)

func base() Config { return Config{Advancers: 2, Mirrors: 1, Pages: 2, Present: 0b1111, Erasable: 0b0011} }

func TestX(t *testing.T) {
	with := func(f func(*Config)) Config { c := base(); f(&c); return c }
	for _, x := range []struct{n string; c Config}{
		{"base", base()},
		{"base3", with(func(c *Config) { c.Present = 0b1011})},
		{"two mirrors1", with(func(c *Config) { c.Mirrors = 2; c.Erasable = 1; c.Present=0b1011; c.Repair = true})},
		{"creator", with(func(c *Config) { c.Present=0b1010; c.Created = 1;c.Erasable=1; c.ArchiveFailed = true})},
		{"rotator", with(func(c *Config) { c.Present=0b1011; c.Rotated = 1;c.Erasable=1; c.ArchiveFailed = true; c.LateIntents=true})},
		{"rotator2", with(func(c *Config) { c.Present=0b1011; c.Rotated = 2;c.Erasable=1; c.ArchiveFailed = true; c.LateIntents=true})},
		{"backup", with(func(c *Config) { c.Advancers = 1; c.Backup=true})},
	} {
		t0 := time.Now()
		r, err := Check(x.c, 4000000)
		fmt.Println(x.n, r, err, time.Since(t0))
	}
}
