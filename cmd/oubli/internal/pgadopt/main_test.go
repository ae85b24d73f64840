package pgadopt_test

import (
	"testing"

	"github.com/oubli/oubli/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
