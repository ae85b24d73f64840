// Package shop is an ordinary application on oubli: the customers, addresses and invoices
// of the Chinook music shop, in PostgreSQL, over HTTP. It is written to be read, and copied
// from.
//
//	schema.sql    the tables; personal columns are text, whatever they hold
//	rows.go       the structs, tagged
//	customers.go  a table through pgrows, in a transaction with another one
//	invoices.go   an ordinary repository, and its decorator
//	erasure.go    who is told of an erasure, what law keeps, and how far it has come
//	http.go       the handlers; problems.go: which error is which answer
//	shop.go       what holds it together; serve.go: what a process opens and closes
//
// An erasure is asked for with DELETE /customers/{id}, which is durable when it answers
// 202 and names where to ask for its progress. A worker does it, in this process or in
// another, now or after a restart. The billing addresses on invoices stay for the tax office
// under a key of their own, and only for those who come for that purpose. The rows stay for
// the turnover by country. There is no login: who may call what is every application's own.
package shop
