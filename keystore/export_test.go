package keystore

// SetMoveBudget lets an advance move no more than n rings in one commit, so that a test
// sees several of them without a hundred thousand subjects. Call it before s is used.
func (s *Store) SetMoveBudget(n int) { s.moveBudget = n }
