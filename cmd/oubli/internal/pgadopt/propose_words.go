package pgadopt

import (
	"slices"
	"strings"
	"unicode"
)

// class is what a column seems to hold.
type class struct {
	name    string
	blank   string // proposed
	decide  bool   // a person must look: it is often harmless, or useful to statistics
	phrases []string
}

// classes by the words of a column's name, in English, German, French and Spanish; the
// first that fits is taken. A phrase is words that must stand in a row; one with a dot
// before it must be the whole name.
var classes = []class{
	{name: "e-mail addresses", phrases: []string{"email", "e mail", "mail", "mailadresse", "emailadresse", "courriel", "correo", "email address"}},
	{name: "telephone numbers", phrases: []string{"phone", "telephone", "telefon", "telefonnummer", "tel", "mobile", "mobil", "mobilnummer", "handy", "handynummer", "gsm", "fax", "telefax", "faxnummer", "telefono", "movil", "celular", "phonenumber", "cell phone", "rufnummer"}},
	{name: "bank accounts", phrases: []string{"iban", "bic", "kontonummer", "account number", "bank account", "kontoinhaber", "account holder", "numero de compte", "cuenta bancaria", "credit card", "card number", "kreditkarte", "carte bancaire", "tarjeta"}},
	{name: "numbers of the state", phrases: []string{"ssn", "social security", "tax id", "tax number", "steuernummer", "steuer id", "steueridentifikationsnummer", "sozialversicherungsnummer", "svnr", "ahv", "passport", "passport number", "ausweisnummer", "personalausweis", "reisepass", "passnummer", "national id", "nif", "nie", "dni", "numero de securite sociale", "insee", "curp", "rfc", "driver license", "drivers license", "fuehrerschein", "permis de conduire", "matricule", "insurance number", "versichertennummer"}},
	{name: "birth dates", blank: "year", phrases: []string{"birth date", "birthdate", "birthday", "date of birth", "dob", "born", "born on", ".birth", "geburtsdatum", "geburtstag", "geboren", "geb datum", "gebdatum", "date de naissance", "date naissance", ".naissance", "fecha de nacimiento", "fecha nacimiento", ".nacimiento"}},
	{name: "names of people", phrases: []string{"first name", "firstname", "last name", "lastname", "surname", "family name", "familyname", "given name", "givenname", "middle name", "middlename", "maiden name", "full name", "fullname", "display name", "displayname", "vorname", "nachname", "familienname", "zuname", "geburtsname", "rufname", "prenom", "nom de famille", "nom usuel", "nombre completo", "nombre y apellidos", "apellido", "apellidos", "forename", "initials", "username", "user name", "login", "login name", "nickname", "nick name", "benutzername", "spitzname", "pseudo", "usuario", "ansprechpartner", "contact name", "contact person", "customer name", "employee name", "patient name", "recipient", "recipient name", "empfaenger", "absender", "sender name", "destinataire", "destinatario", "author name", "owner name", "signature"}},
	{name: "postal codes", blank: "first:2", phrases: []string{"postal code", "postalcode", "postcode", "post code", "zip", "zip code", "zipcode", "plz", "postleitzahl", "code postal", "codepostal", "codigo postal", ".cp"}},
	{name: "IP addresses", phrases: []string{"ip", "ip address", "ipaddress", "ip addr", "ipv4", "ipv6", "remote addr", "remote address", "client ip", "remote ip", "last ip", "adresse ip", "direccion ip"}},
	{name: "addresses", phrases: []string{"address", "addr", "street", "street address", "address line", "addressline", "line 1", "line 2", "house number", "adresse", "anschrift", "strasse", "hausnummer", "hausnr", "adresszusatz", "wohnung", "rue", "direccion", "calle", "domicilio", "domicile"}},
	{name: "places", phrases: []string{"city", "town", "village", "ort", "wohnort", "stadt", "ville", "ciudad", "localidad", "poblacion", "birth place", "birthplace", "place of birth", "geburtsort", "lieu de naissance", "lugar de nacimiento"}},
	{name: "positions", decide: true, phrases: []string{"latitude", "longitude", "lat", "lng", "geo", "gps", "coordinates", "koordinaten", "coordenadas"}},
	{name: "traces of a browser", decide: true, phrases: []string{"user agent", "useragent", "cookie", "fingerprint", "device id", "advertising id"}},
	{name: "pictures", decide: true, phrases: []string{"photo", "avatar", "picture", "portrait", "passbild", "foto", "image"}},
	{name: "free text, in which people write anything", decide: true, phrases: []string{"note", "notes", "comment", "comments", "remark", "remarks", "memo", "message", "body", "feedback", "bio", "about", "description", "notiz", "notizen", "bemerkung", "bemerkungen", "kommentar", "anmerkung", "anmerkungen", "beschreibung", "nachricht", "remarque", "remarques", "commentaire", "commentaires", "observation", "observations", "observaciones", "comentario", "comentarios", "nota", "notas", "mensaje"}},
	{name: "what is sensitive about people", decide: true, phrases: []string{"gender", "sex", "geschlecht", "sexe", "sexo", "genero", "religion", "konfession", "nationality", "nationalitaet", "staatsangehoerigkeit", "nationalite", "nacionalidad", "ethnicity", "diagnosis", "diagnose", "blood type", "blutgruppe", "allergies", "allergien", "marital status", "familienstand", "salary", "gehalt", "lohn", "salaire", "salario"}},
	{name: "companies, which may be people", decide: true, phrases: []string{"company", "company name", "firma", "entreprise", "societe", "empresa", "employer", "arbeitgeber"}},
	{name: "regions, which statistics may need", decide: true, phrases: []string{"state", "province", "region", "bundesland", "departement", "provincia", "county", "kanton", "canton"}},
}

// names alone, which are people's in a table of people.
var bareNames = []string{"name", "nom", "nombre", "title name"}

// people are words for tables whose rows are people, the likelier first.
var people = []string{
	"customer", "user", "member", "patient", "person", "employee", "client", "contact", "subscriber", "account holder", "student", "pupil", "teacher", "guest", "applicant", "candidate", "lead", "visitor", "donor", "tenant", "staff", "worker", "author", "participant", "attendee", "passenger", "buyer", "seller", "people", "individual", "citizen", "profile", "recipient", "player", "driver", "volunteer",
	"kunde", "kundin", "benutzer", "nutzer", "mitglied", "mitarbeiter", "angestellter", "patientin", "ansprechpartner", "schueler", "bewerber", "teilnehmer", "mieter", "spender", "gast", "versicherter",
	"utilisateur", "membre", "employe", "personne", "salarie", "abonne", "adherent", "eleve", "etudiant", "locataire", "cliente", "usuario", "miembro", "empleado", "persona", "paciente", "alumno", "socio", "contacto", "suscriptor",
}

// words splits a name: at signs and spaces, before capitals, between letters and digits;
// in lower case and without accents.
func words(name string) []string {
	var list []string
	var word []rune
	end := func() {
		if len(word) > 0 {
			list = append(list, fold(string(word)))
		}
		word = word[:0]
	}
	runes := []rune(name)
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			end()
			continue
		case i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsUpper(runes[i-1]) && unicode.IsLower(runes[i+1])):
			end()
		case i > 0 && unicode.IsDigit(r) != unicode.IsDigit(runes[i-1]):
			end()
		}
		word = append(word, r)
	}
	end()
	return list
}

var folding = strings.NewReplacer("ä", "ae", "ö", "oe", "ü", "ue", "ß", "ss", "é", "e", "è", "e", "ê", "e", "ë", "e", "à", "a", "â", "a", "ç", "c", "î", "i", "ï", "i", "ô", "o", "û", "u", "ù", "u", "á", "a", "í", "i", "ó", "o", "ú", "u", "ñ", "n")

func fold(s string) string { return folding.Replace(strings.ToLower(s)) }

// holds tells whether the words of a phrase stand in a row in a name.
func holds(name []string, phrase string) bool {
	if whole, ok := strings.CutPrefix(phrase, "."); ok {
		return strings.Join(name, " ") == whole
	}
	parts := strings.Split(phrase, " ")
	for i := 0; i+len(parts) <= len(name); i++ {
		here := name[i : i+len(parts)]
		if slices.Equal(here, parts) || len(parts) == 1 && singular(here[0]) == phrase {
			return true
		}
	}
	return false
}

// classOf finds the class of a column by its name, nil if it has none.
func classOf(column string) *class {
	name := words(column)
	for i := range classes {
		if slices.ContainsFunc(classes[i].phrases, func(p string) bool { return holds(name, p) }) {
			return &classes[i]
		}
	}
	return nil
}

// kindOf is the kind of a table of people, "" if its name does not say that it is one:
// customers, tbl_customer and Customer are tables of customers, customer_order is not.
func kindOf(table string) (kind string, rank int) {
	name := words(table)
	for _, prefix := range []string{"tbl", "t", "tb", "dim", "app", "auth", "core"} {
		if len(name) > 1 && name[0] == prefix {
			name = name[1:]
		}
	}
	if len(name) == 0 {
		return "", 0
	}
	last := singular(name[len(name)-1])
	for rank, p := range people {
		if last == p || name[len(name)-1] == p {
			return strings.Join(append(slices.Clone(name[:len(name)-1]), last), "_"), rank
		}
	}
	return "", 0
}

// singular of a table's name, as far as it takes for the words above.
func singular(word string) string {
	for _, form := range []struct{ plural, singular string }{
		{"kunden", "kunde"}, {"kundinnen", "kundin"}, {"patientinnen", "patientin"}, {"mitglieder", "mitglied"}, {"gaeste", "gast"}, {"patienten", "patient"}, {"people", "person"},
		{"personen", "person"}, {"versicherte", "versicherter"}, {"angestellte", "angestellter"}, {"studenten", "student"}, {"kontakte", "kontakt"},
		{"staff", "staff"}, {"employees", "employee"}, {"employes", "employe"}, {"personnes", "personne"},
	} {
		if word == form.plural {
			return form.singular
		}
	}
	switch {
	case strings.HasSuffix(word, "ies"):
		return strings.TrimSuffix(word, "ies") + "y"
	case strings.HasSuffix(word, "ss"):
		return word
	}
	return strings.TrimSuffix(word, "s")
}
