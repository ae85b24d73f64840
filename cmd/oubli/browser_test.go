package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"
)

// browser is a browser of a page that oubli serve has, for scripts. Its first argument is
// a file, in which it remembers its cookie and where the page is:
//
//	browser FILE enter LINK           opens the link in the file LINK, when it is there
//	browser FILE look LINK PATH       asks for a path of the page with that link
//	browser FILE get PATH
//	browser FILE until TEXT PATH      asks again until the text is there
//	browser FILE host HOST PATH       asks under another name
//	browser FILE post ORIGIN PATH NAME=VALUE...   posts a form from an origin: own, none, or one
//	browser FILE erase TYPED SUBJECT...           erases people, confirms what is asked, and types that
//
// It prints the status and the words of the answer, each run of them on a line.
func browser(args []string) int {
	b := &tab{file: args[0]}
	if text, err := os.ReadFile(b.file); err == nil {
		if err := json.Unmarshal(text, b); err != nil {
			return fail(err)
		}
	}
	if err := b.do(args[1], args[2:]); err != nil {
		return fail(err)
	}
	text, err := json.Marshal(b)
	if err != nil {
		return fail(err)
	}
	return fail(os.WriteFile(b.file, text, 0o600))
}

type tab struct {
	file         string
	Base, Cookie string
}

func (b *tab) do(what string, args []string) error {
	switch what {
	case "enter", "look":
		link, err := linkIn(args[0])
		if err != nil {
			return err
		}
		b.Base = strings.TrimSuffix("http://"+link.Host+link.Path, "/enter")
		if what == "look" {
			return b.show(b.ask("GET", args[1], "", nil))
		}
		return b.show(b.ask("GET", "/enter?"+link.RawQuery, "", nil))
	case "get":
		return b.show(b.ask("GET", args[0], "", nil))
	case "until":
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			answer, err := b.ask("GET", args[1], "", nil)
			if err != nil || strings.Contains(answer.words, args[0]) || time.Now().After(end) {
				return b.show(answer, err)
			}
		}
	case "host":
		r, err := http.NewRequest("GET", b.Base+args[1], nil)
		if err != nil {
			return err
		}
		r.Host = strings.ReplaceAll(args[0], "PORT", r.URL.Port())
		return b.show(b.send(r))
	case "post":
		return b.show(b.ask("POST", args[1], args[0], formOf(args[2:])))
	case "erase":
		return b.erase(args[0], args[1:])
	}
	return errors.New("no such action")
}

// linkIn waits for a link.
func linkIn(file string) (*url.URL, error) {
	for range 1000 {
		text, err := os.ReadFile(file)
		if line, _, whole := strings.Cut(string(text), "\n"); err == nil && whole {
			return url.Parse(line)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, errors.New("no link has come")
}

// formOf reads NAME=VALUE.
func formOf(args []string) url.Values {
	form := url.Values{}
	for _, a := range args {
		name, value, _ := strings.Cut(a, "=")
		form.Add(name, value)
	}
	return form
}

// answer is what came.
type answer struct {
	code           int
	location, html string
	words          string
}

func (b *tab) ask(method, path, origin string, form url.Values) (*answer, error) {
	r, err := http.NewRequest(method, b.Base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	if method == "POST" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		switch origin {
		case "own":
			r.Header.Set("Origin", "http://"+r.URL.Host)
		case "none":
		default:
			r.Header.Set("Origin", origin)
		}
	}
	return b.send(r)
}

func (b *tab) send(r *http.Request) (*answer, error) {
	if b.Cookie != "" {
		r.Header.Set("Cookie", b.Cookie)
	}
	client := &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	for _, c := range resp.Cookies() {
		b.Cookie = c.Name + "=" + c.Value
	}
	body, err := io.ReadAll(resp.Body)
	words := tag.ReplaceAllString(string(body), "\n")
	return &answer{resp.StatusCode, resp.Header.Get("Location"), string(body), html.UnescapeString(blank.ReplaceAllString(words, "\n"))}, err
}

var (
	tag    = regexp.MustCompile(`(?s)<[^>]*>`)
	blank  = regexp.MustCompile(`\s*\n\s*`)
	goForm = regexp.MustCompile(`(?s)<form[^>]*action="act".*?</form>`)
	hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
)

func (b *tab) show(a *answer, err error) error {
	if err != nil {
		return err
	}
	fmt.Println(a.code, a.location)
	fmt.Print(strings.TrimPrefix(a.words, "\n"))
	return nil
}

// erase goes the way of somebody who erases people.
func (b *tab) erase(typed string, people []string) error {
	shown, err := b.follow(b.ask("POST", "/confirm", "own", url.Values{"action": {"erase"}, "s": people}))
	if err != nil || shown.code != http.StatusOK {
		return b.show(shown, err)
	}
	form := url.Values{"typed": {typed}}
	for _, input := range hidden.FindAllStringSubmatch(goForm.FindString(shown.html), -1) {
		form.Add(html.UnescapeString(input[1]), html.UnescapeString(input[2]))
	}
	done, err := b.ask("POST", "/act", "own", form)
	if err == nil {
		fmt.Println(done.code, done.location)
	}
	return b.show(b.follow(done, err))
}

// follow goes where an answer leads, once.
func (b *tab) follow(a *answer, err error) (*answer, error) {
	if err != nil || a.code != http.StatusSeeOther {
		return a, err
	}
	return b.ask("GET", "/"+strings.TrimPrefix(a.location, "/"), "", nil)
}
