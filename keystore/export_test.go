package keystore

// SetMoveBudget lets an advance move no more than n rings in one commit, so that a test
// sees several of them without a hundred thousand subjects. Call it before s is used.
func (s *Store) SetMoveBudget(n int) { s.moveBudget = n }

// CachedKeys tells how many data keys of a subject the cache holds, valid or not.
func (s *Store) CachedKeys(sub Subject) int {
	if e, ok := s.cache.GetIfPresent(sub); ok {
		return len(e.keys)
	}
	return 0
}
