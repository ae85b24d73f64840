package readme

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What stands around the documents' lines about the admin page, in an application.
const (
	adminImports = `package main

import (
	"context"
	"iter"
	"log"
	"log/slog"
	"net/http"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

type customer struct {
	ID      int64  ` + "`oubli:\",subject=customer\"`" + `
	First   string ` + "`oubli:\"first_name\"`" + `
	Last    string ` + "`oubli:\"last_name\"`" + `
	Country string ` + "`db:\"country\"`" + `
}

type rows interface {
	RowsOf(context.Context, keystore.Subject) iter.Seq2[customer, error]
	SaveFields(context.Context, customer, []string) error
}

type account struct{}

func (account) Actor() string          { return "account-7" }
func (account) Self() keystore.Subject { return keystore.Subject{} }
func (account) May(_ context.Context, _ admin.Permission, subjects ...keystore.Subject) ([]bool, error) {
	return make([]bool, len(subjects)), nil
}

type asks = func(*http.Request) (admin.Viewer, error)

var _ = slog.Default
var _ = anonymize.New

func main() {}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
`
	mountOfReadme = "func _(eraser *anonymize.Eraser, mux *http.ServeMux, columns admin.Columns, viewer asks) {\n"
	mountOfAdmin  = "func _(ctx context.Context, eraser *anonymize.Eraser, codec *fieldcrypt.Codec[customer], table rows, mux *http.ServeMux, viewer asks, done chan error) {\n"
	viewerOfAdmin = "func _(sessions map[string]account) asks {\n"
)

// TestAdminSnippets builds the lines that mount the admin page, as they stand.
func TestAdminSnippets(t *testing.T) {
	read := func(path ...string) string {
		raw, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, path...)...))
		require.NoError(t, err)
		return string(raw)
	}
	guide := read("docs", "admin.md")
	source := adminImports +
		mountOfReadme + block(t, read("README.md"), "## A page for whoever handles the requests", "go") + "}\n" +
		mountOfAdmin + block(t, guide, "## In your application", "go") + "}\n" +
		viewerOfAdmin + block(t, guide, "### Who may do what", "go") + "return viewer\n}\n"

	program, err := os.MkdirTemp(".", "program-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(program) })
	require.NoError(t, os.WriteFile(filepath.Join(program, "main.go"), []byte(source), 0o600))
	run(t, ".", "go", "build", "-o", filepath.Join(t.TempDir(), "app"), "./"+program)
}
