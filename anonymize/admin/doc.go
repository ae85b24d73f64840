// Package admin is the page of those who handle the requests of data subjects: an
// [http.Handler] that an application mounts in its own admin, over the eraser that the
// application uses, so that its receivers run.
//
//	page, err := admin.New(eraser, &admin.Options{Path: "/privacy/", Viewer: viewer})
//	mux.Handle("/privacy/", page)
//
// It shows people with their states, says what would happen to whom before anything
// does, and lets people be erased, restricted, released and exported, one or many at
// once. What was asked for many at once is a [keystore.Batch], whose page shows how far
// each person has come, in whatever process looks at it.
//
// # Who may do what
//
// The application says so: its [Viewer] is asked for a [Permission] for each subject when
// a page is made and again when something is done. Without one the answer is 403, the
// attempt is logged, and nothing at all is changed, for the others of a batch neither.
// Every action carries the viewer's actor into the subjects' histories.
//
// # What it guards against
//
// A page of another origin cannot post here ([http.CrossOriginProtection]), and a POST
// that does not say where it comes from is refused. Erasing asks for a confirmation that
// names what is so now: whoever confirms what is not so any more, or was shown more than
// an hour ago, is shown what is, and nothing happens. Each confirmation has the id of the
// batch that it becomes, so that sending it twice is once.
//
// All pages forbid scripts and styles from elsewhere, being framed, being stored, and
// telling their addresses to others, for subjects stand in them. A page that the keystore
// cannot answer for is 503: an outage never reads as an erasure.
//
// # Where it is mounted
//
// All links are relative to the page that they stand on, so any prefix works, behind
// [http.StripPrefix] and proxies that rewrite paths too. Options.Path is what the handler
// itself finds at the beginning of a request's path.
package admin
