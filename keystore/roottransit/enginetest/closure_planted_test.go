package enginetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The oracle is tried against engines that break the promise on purpose: each fault is
// planted in what goes over the wire. No code of the driver is touched.

const withinReach = "is final, and its key"

// lies is a fault: change may change a request's body, or swallow the request by returning
// false; show may change the data of an answer.
type lies struct {
	change func(op string, body map[string]any) bool
	show   func(op string, data map[string]any)
}

// op is what a request does: "POST trim", with POST for PUT.
func op(r *http.Request) string {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/v1/"), "/")
	method := strings.Replace(r.Method, http.MethodPut, http.MethodPost, 1)
	switch {
	case len(parts) == 4 && parts[1] == "keys": // transit1/keys/oubli1/trim
		return method + " " + parts[3]
	case len(parts) == 3 && strings.HasPrefix(parts[0], "transit"): // transit1/encrypt/oubli1
		return method + " " + parts[1]
	}
	return method
}

func (l lies) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		var body map[string]any
		if l.change != nil && json.Unmarshal(raw, &body) == nil {
			if !l.change(op(r), body) {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			raw, _ = json.Marshal(body)
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		var all map[string]any
		out := answer.Body.Bytes()
		if l.show != nil && json.Unmarshal(out, &all) == nil {
			if data, ok := all["data"].(map[string]any); ok {
				l.show(op(r), data)
				out, _ = json.Marshal(all)
			}
		}
		for k, v := range answer.Header() {
			if k != "Content-Length" {
				w.Header()[k] = v
			}
		}
		w.WriteHeader(answer.Code)
		w.Write(out)
	})
}

// number reads a JSON number.
func number(v any) int {
	n, _ := v.(float64)
	return int(n)
}

// ask writes to the engine as its administrator, past every fault.
func (c *closed) ask(t *testing.T, path string, body any) map[string]any {
	raw, err := json.Marshal(body)
	require.NoError(t, err)
	r := httptest.NewRequest(http.MethodPut, "/v1/"+path, bytes.NewReader(raw))
	r.Header.Set("X-Vault-Token", c.root)
	answer := httptest.NewRecorder()
	c.Handler().ServeHTTP(answer, r)
	var all struct{ Data map[string]any }
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &all))
	require.Less(t, answer.Code, 300, "%s: %s", path, answer.Body)
	return all.Data
}

// plantedWorld has three people with keys.
func plantedWorld(t *testing.T, e *closed) *world {
	w := newWorld(t, e, 0, 0, 4)
	t.Cleanup(func() { e.set(nil); w.close() })
	w.add(3)
	w.write(w.people...)
	return w
}

func TestOracle(t *testing.T) {
	e := startClosed(t)

	t.Run("finds nothing where nothing is wrong", func(t *testing.T) {
		w := plantedWorld(t, e)
		touched := 0
		e.set(lies{
			change: func(op string, _ map[string]any) bool { touched++; return true },
			show:   func(string, map[string]any) {},
		}.around)
		w.erased(w.people[0])
		require.Positive(t, touched, "the planting itself is sound")
		w.check()
		w.settle()
		require.Equal(t, []string{w.people[0].sub.String()}, w.before(), "the storage from before the trim opens whom it opened")
	})

	t.Run("the minimum is raised and nothing is trimmed", func(t *testing.T) {
		w := plantedWorld(t, e)
		limit := 0
		honest := lies{change: func(op string, body map[string]any) bool {
			if op == "POST trim" {
				limit = number(body["min_available_version"])
				return false
			}
			return true
		}}
		e.set(honest.around)
		es, err := w.erase(w.people[0])
		require.Positive(t, limit)
		require.Error(t, err, "an engine that does not say that it trimmed is not believed")
		require.False(t, es[0].Final)

		lying := honest
		lying.show = func(op string, data map[string]any) {
			if op == "GET keys" && limit > 0 {
				data["min_available_version"] = limit
			}
		}
		e.set(lying.around)
		w.erased(w.people[0])
		w.caught(withinReach)
	})

	t.Run("who dies between the minimum and trimming is made up for", func(t *testing.T) {
		w := plantedWorld(t, e)
		dead := false
		e.set(lies{change: func(op string, _ map[string]any) bool {
			if dead = dead || op == "POST trim"; dead {
				panic(http.ErrAbortHandler)
			}
			return true
		}}.around)
		es, err := w.erase(w.people[0])
		require.Error(t, err)
		require.False(t, es[0].Final)
		e.set(nil)
		require.True(t, dead)
		w.reopen()
		w.erased(w.people[0])
		w.check()
	})

	t.Run("one version too few is trimmed", func(t *testing.T) {
		w := plantedWorld(t, e)
		limit := 0
		e.set(lies{
			change: func(op string, body map[string]any) bool {
				if op == "POST trim" {
					limit = number(body["min_available_version"])
					body["min_available_version"] = limit - 1
					return limit > 1
				}
				return true
			},
			show: func(op string, data map[string]any) {
				if op == "GET keys" && limit > 0 {
					data["min_available_version"] = limit
				}
			},
		}.around)
		w.erased(w.people[0])
		w.erased(w.people[1])
		require.Greater(t, limit, 2)
		w.caught("the erasure of " + w.people[1].sub.String() + " " + withinReach)
	})

	t.Run("a root is wrapped by an older version", func(t *testing.T) {
		w := plantedWorld(t, e)
		real := map[string]string{} // by what the driver was told
		asked := 0
		e.set(lies{
			change: func(op string, body map[string]any) bool {
				switch op {
				case "POST encrypt":
					if asked = number(body["key_version"]); asked > 1 {
						body["key_version"] = asked - 1
					}
				case "POST decrypt":
					if text, ok := real[body["ciphertext"].(string)]; ok {
						body["ciphertext"] = text
					}
				}
				return true
			},
			show: func(op string, data map[string]any) {
				if op == "POST encrypt" {
					text := data["ciphertext"].(string)
					told := fmt.Sprintf("vault:v%d%s", asked, text[strings.LastIndex(text, ":"):])
					real[told] = text
					data["ciphertext"], data["key_version"] = told, asked
				}
			},
		}.around)
		w.erase(w.people[0])
		list := w.violations()
		require.Contains(t, strings.Join(list, "\n"), "who lives, can't be reached")
	})

	t.Run("a root is wrapped once more, by a key that lives on", func(t *testing.T) {
		w := plantedWorld(t, e)
		_, err := e.Admin().Logical().Write(transitMount(e.worlds)+"/keys/eternal", nil)
		require.NoError(t, err)
		hoarded := 0
		e.set(lies{change: func(op string, body map[string]any) bool {
			if op == "POST encrypt" {
				hoarded++
				delete(body, "key_version")
				text := e.ask(t, transitMount(e.worlds)+"/encrypt/eternal", body)["ciphertext"]
				e.ask(t, kvMount(e.worlds)+"/data/hoard", map[string]any{"data": map[string]any{"blob": text}})
			}
			return true
		}}.around)
		w.erased(w.people[0]) // its root was made before
		w.erased(w.people[1])
		require.Positive(t, hoarded)
		w.caught("the erasure of " + w.people[1].sub.String() + " " + withinReach)
	})
}
