package browsertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// root is the folder of the repository.
const root = "../../.."

// plainHost is a name for this machine, which the browser does not know to be this machine.
const plainHost = "privacy.test"

// What all tests share: one browser, in which each has tabs, cookies and storage of its own.
var (
	browser context.Context
	axe     string // the script axe-core
	profile string // a folder that is removed at the end
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintf(os.Stderr, "browsertest: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	var err error
	if axe, err = readAxe(); err != nil {
		return 1, err
	}
	profile, err = os.MkdirTemp("", "oubli-browser-*")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(profile)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.UserDataDir(filepath.Join(profile, "browser")),
		// Containers and root have no sandbox, and nothing but these tests' pages is opened.
		chromedp.NoSandbox,
		chromedp.Flag("disable-component-update", true),
		// No name is looked up, whatever a page or the browser asks for.
		chromedp.Flag("host-resolver-rules", "MAP "+plainHost+" 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"),
		chromedp.Flag("hide-scrollbars", true),
	)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	if err := chromedp.Do(ctx); err != nil {
		return 1, fmt.Errorf("Chromium does not start; scripts/test installs it: %w", err)
	}
	browser = ctx
	return m.Run(), nil
}

// readAxe reads axe-core from where scripts/test says that it is, or else from where it puts it.
func readAxe() (string, error) {
	path := os.Getenv("OUBLI_TEST_AXE")
	if path == "" {
		found, err := filepath.Glob(filepath.Join(root, "build", "axe-core-*", "axe.min.js"))
		if err != nil {
			return "", err
		}
		if len(found) == 0 {
			return "", errors.New("there is no build/axe-core-*/axe.min.js; run scripts/test, which fetches it, or name the file in OUBLI_TEST_AXE")
		}
		path = found[len(found)-1]
	}
	script, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("axe-core can't be read; scripts/test fetches it: %w", err)
	}
	return string(script), nil
}
