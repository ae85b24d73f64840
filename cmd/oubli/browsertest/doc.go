// Package browsertest has no code of its own: its tests look at the admin page as people do,
// in a Chromium without a window. They find what they click and type into by the names that a
// screen reader reads out, fail at an error in the console, at a dialog and at a request that
// leaves the page's origin, and put each state of each page through axe-core in light and in
// dark, on a desktop, a tablet and a telephone. The pictures are in build/screenshots.
//
// scripts/test installs Chromium and fetches axe-core. Without them the tests fail.
package browsertest
