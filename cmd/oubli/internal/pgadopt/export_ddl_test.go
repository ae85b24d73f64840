package pgadopt

// RetryFor is RetryDDL with so many tries.
var RetryFor = retryDDL
