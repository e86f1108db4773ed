package retry

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

type kind struct{ permanent, operator, unknown, stale bool }

func (kind) Error() string     { return "x" }
func (k kind) Permanent() bool { return k.permanent }
func (k kind) Operator() bool  { return k.operator }
func (k kind) Unknown() bool   { return k.unknown }
func (k kind) Stale() bool     { return k.stale }

func TestKinds(t *testing.T) {
	for _, k := range []kind{{}, {permanent: true}, {operator: true}, {unknown: true}, {stale: true}} {
		for _, err := range []error{k, fmt.Errorf("around: %w", k), errors.Join(errors.New("y"), k)} {
			assert.Equal(t, k, kind{IsPermanent(err), NeedsOperator(err), IsUnknown(err), IsStale(err)})
		}
	}
	for _, err := range []error{nil, errors.New("x")} {
		assert.Equal(t, kind{}, kind{IsPermanent(err), NeedsOperator(err), IsUnknown(err), IsStale(err)})
	}
}
