package keystore

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// BatchID identifies a [Batch]. It holds the time at which it was made, so that newer ids
// sort first.
type BatchID [16]byte

// NewBatchID makes an id, of the time in milliseconds and random bits.
func NewBatchID(at time.Time) BatchID {
	var id BatchID
	rand.Read(id[:])
	binary.BigEndian.PutUint64(id[:], ^uint64(at.UnixMilli()))
	return id
}

// ParseBatchID reads what String writes. The error wraps ErrInvalid.
func ParseBatchID(text string) (id BatchID, err error) {
	if n, err := hex.Decode(id[:], []byte(text)[:min(len(text), 2*len(id))]); err != nil || n != len(id) || len(text) != 2*len(id) {
		return BatchID{}, fmt.Errorf("%w: this is no id of a batch", ErrInvalid)
	}
	return id, nil
}

// Time is when the id was made.
func (id BatchID) Time() time.Time {
	return time.UnixMilli(int64(^binary.BigEndian.Uint64(id[:]))).UTC()
}

// String gives the id in hexadecimal; so does MarshalText, for JSON.
func (id BatchID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText gives what String does.
func (id BatchID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// Batch is what somebody asked for several people at once, kept so that other processes,
// too, can look at it later. How far each of them has come, their Status says. It is not
// secret, and not authenticated beyond what the backend does.
type Batch struct {
	ID       BatchID   `json:"id"`
	Action   string    `json:"action"`         // what was asked: 1 to 32 of a to z and dashes
	Actor    string    `json:"actor"`          // who asked, see WithActor
	Keep     []string  `json:"keep,omitempty"` // purposes to keep
	Subjects []Subject `json:"subjects"`       // 1 to MaxBatch
	Refused  []Refusal `json:"refused,omitempty"`
}

// Refusal is why something was not done for one subject of a batch.
type Refusal struct {
	Subject Subject `json:"subject"` // one of the batch's
	Why     string  `json:"why"`     // the text of an error of the keystore; of more than 500 bytes the rest is left out
}

const (
	// MaxBatch is how many subjects a batch has at most.
	MaxBatch = 1000

	// batchLife is how long batches are kept; batchAhead is how far another host's clock may
	// be ahead of ours.
	batchLife  = 90 * 24 * time.Hour
	batchAhead = 24 * time.Hour

	batchVersion    = 1
	maxAction       = 32
	maxBatchKeep    = 100
	maxWhy          = 500
	batchesToForget = 16 // at a time
)

// AddBatch creates a batch, and forgets some of those that are older than 90 days. Of
// several calls with one id, in whatever processes, one succeeds, and the others fail with
// ErrExists: so what is asked for twice is done once. The error wraps ErrInvalid for what
// can't be stored, and for an id that is as old, or of tomorrow.
func (s *Store) AddBatch(ctx context.Context, b Batch) error { return s.putBatch(ctx, b, false) }

// SaveBatch is AddBatch, but that it replaces a batch that is there.
func (s *Store) SaveBatch(ctx context.Context, b Batch) error { return s.putBatch(ctx, b, true) }

func (s *Store) putBatch(ctx context.Context, b Batch, replace bool) error {
	if err := s.check(true); err != nil {
		return err
	}
	now := s.clock()
	value, err := b.encode(now)
	if err != nil {
		return fmt.Errorf("save batch %s: %w", b.ID, err)
	}
	key := batchKey(b.ID)
	for try := range conflictTries {
		if err := backoff(ctx, try); err != nil {
			return err
		}
		recs, err := s.backend.Get(ctx, [][]byte{key})
		if err != nil {
			return err
		}
		if recs[0].Rev != 0 && !replace {
			return fmt.Errorf("batch %s: %w", b.ID, ErrExists)
		}
		var first BatchID // of those that are too old
		binary.BigEndian.PutUint64(first[:], ^uint64(now.Add(-batchLife).UnixMilli())+1)
		old, err := s.backend.Scan(ctx, batchKey(first), []byte{globalPage, kindBatch + 1}, batchesToForget)
		if err != nil {
			return err
		}
		group := Group{{Op: Put, Key: key, If: recs[0].Rev, Rev: newRev(), Value: value}}
		for _, rec := range old {
			group = append(group, Write{Op: Delete, Key: rec.Key, If: rec.Rev})
		}
		if _, err = s.backend.Commit(ctx, []Group{group}); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("save batch %s: %w: %w", b.ID, ErrUnavailable, ErrConflict)
}

// Batch returns a batch. The error wraps ErrNotFound if there is none, or none any more.
func (s *Store) Batch(ctx context.Context, id BatchID) (Batch, error) {
	if err := s.check(false); err != nil {
		return Batch{}, err
	}
	recs, err := s.backend.Get(ctx, [][]byte{batchKey(id)})
	if err != nil {
		return Batch{}, err
	}
	if recs[0].Rev == 0 {
		return Batch{}, fmt.Errorf("batch %s: %w; they are kept for %d days", id, ErrNotFound, batchLife/(24*time.Hour))
	}
	return parseBatch(recs[0])
}

// Batches returns the batches behind after, the newest first; from the newest if after is
// zero. limit is 1 to MaxList. Where one can't be read, err wraps ErrTampered and names it,
// and of it the list has the ID alone.
func (s *Store) Batches(ctx context.Context, after BatchID, limit int) ([]Batch, error) {
	if err := s.check(false); err != nil {
		return nil, err
	}
	if limit < 1 || limit > MaxList {
		return nil, fmt.Errorf("%w: a limit of %d: 1 to %d are listed at a time", ErrInvalid, limit, MaxList)
	}
	recs, err := s.backend.Scan(ctx, append(batchKey(after), 0), []byte{globalPage, kindBatch + 1}, limit)
	if err != nil {
		return nil, err
	}
	list := make([]Batch, len(recs))
	var broken []error
	for i, rec := range recs {
		if list[i], err = parseBatch(rec); err != nil {
			broken = append(broken, err)
		}
	}
	return list, errors.Join(broken...)
}

func (b *Batch) encode(now time.Time) ([]byte, error) {
	at := b.ID.Time()
	bad := func(format string, args ...any) ([]byte, error) {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	switch {
	case at.Before(now.Add(-batchLife)) || at.After(now.Add(batchAhead)):
		return bad("its id is of %s", at.Format(time.RFC3339))
	case len(b.Action) < 1 || len(b.Action) > maxAction || strings.Trim(b.Action, "abcdefghijklmnopqrstuvwxyz-") != "":
		return bad("an action is 1 to %d letters a to z and dashes", maxAction)
	case len(b.Actor) > MaxActor || !utf8.ValidString(b.Actor):
		return bad("an actor has at most %d bytes of UTF-8", MaxActor)
	case len(b.Keep) > maxBatchKeep || slices.ContainsFunc(b.Keep, func(p string) bool { return len(p) > MaxID }):
		return bad("at most %d purposes of %d bytes are kept", maxBatchKeep, MaxID)
	case len(b.Subjects) < 1 || len(b.Subjects) > MaxBatch:
		return bad("%d subjects: 1 to %d are a batch", len(b.Subjects), MaxBatch)
	case len(b.Refused) > len(b.Subjects):
		return bad("more refusals than subjects")
	}
	v := appendString(appendString([]byte{batchVersion}, b.Action), b.Actor)
	v = appendStrings(v, b.Keep)
	v = binary.AppendUvarint(v, uint64(len(b.Subjects)))
	place := make(map[Subject]int, len(b.Subjects))
	for i, sub := range b.Subjects {
		if sub.IsZero() {
			return bad("the zero subject")
		}
		v = appendString(v, sub.text)
		place[sub] = i
	}
	v = binary.AppendUvarint(v, uint64(len(b.Refused)))
	for _, r := range b.Refused {
		i, ok := place[r.Subject]
		if !ok {
			return bad("it refuses %s and is not about it", cmp.Or(r.Subject.text, "nobody"))
		}
		v = appendString(binary.AppendUvarint(v, uint64(i)), cut(r.Why, maxWhy))
	}
	return v, nil
}

// parseBatch is the reverse of encode. With an error, the batch has its ID at most.
func parseBatch(rec Record) (Batch, error) {
	var b Batch
	bad := func() (Batch, error) {
		return Batch{ID: b.ID}, fmt.Errorf("%w: batch %s does not parse", ErrTampered, b.ID)
	}
	if copy(b.ID[:], rec.Key[2:]) != len(b.ID) || len(rec.Key) != 2+len(b.ID) {
		return bad()
	}
	r := reader{b: rec.Value}
	if v := r.byte(); v != batchVersion && !r.bad {
		return Batch{ID: b.ID}, fmt.Errorf("%w: batch %s is of version %d; a newer oubli may read it", ErrTampered, b.ID, v)
	}
	b.Action, b.Actor, b.Keep = r.string(), r.string(), r.strings()
	b.Subjects = make([]Subject, r.count(1))
	for i := range b.Subjects {
		var err error
		if b.Subjects[i], err = ParseSubject(r.string(), AllowAt()); err != nil {
			return bad()
		}
	}
	for range r.count(2) {
		i := r.uvarint()
		if i >= uint64(len(b.Subjects)) {
			return bad()
		}
		b.Refused = append(b.Refused, Refusal{Subject: b.Subjects[i], Why: r.string()})
	}
	if r.bad || len(r.b) > 0 {
		return bad()
	}
	return b, nil
}
