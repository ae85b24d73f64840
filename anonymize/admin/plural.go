package admin

// pluralForms are the names of plural forms, after CLDR.
var pluralForms = []string{"zero", "one", "two", "few", "many", "other"}

// pluralOf returns the rule by which a language, an ISO 639 code, chooses the plural form
// of a whole number: those of Unicode's CLDR for the languages of the European Union and
// some of the most spoken others. A language that is not among them counts like English.
func pluralOf(lang string) func(n int) string {
	switch lang {
	case "ja", "zh", "ko", "vi", "th", "id", "ms":
		return func(int) string { return "other" }
	case "fr", "pt", "hi", "fa", "bn":
		return func(n int) string { return first(n == 0 || n == 1, "one") }
	case "ru", "uk", "be":
		return func(n int) string {
			return first(n%10 == 1 && n%100 != 11, "one", within(n%10, 2, 4) && !within(n%100, 12, 14), "few", true, "many")
		}
	case "hr", "sr", "bs":
		return func(n int) string {
			return first(n%10 == 1 && n%100 != 11, "one", within(n%10, 2, 4) && !within(n%100, 12, 14), "few")
		}
	case "pl":
		return func(n int) string {
			return first(n == 1, "one", within(n%10, 2, 4) && !within(n%100, 12, 14), "few", true, "many")
		}
	case "cs", "sk":
		return func(n int) string { return first(n == 1, "one", within(n, 2, 4), "few") }
	case "lt":
		return func(n int) string {
			return first(n%10 == 1 && !within(n%100, 11, 19), "one", n%10 >= 2 && !within(n%100, 11, 19), "few")
		}
	case "lv":
		return func(n int) string {
			return first(n%10 == 0 || within(n%100, 11, 19), "zero", n%10 == 1 && n%100 != 11, "one")
		}
	case "sl":
		return func(n int) string {
			return first(n%100 == 1, "one", n%100 == 2, "two", within(n%100, 3, 4), "few")
		}
	case "ro":
		return func(n int) string { return first(n == 1, "one", n == 0 || within(n%100, 1, 19), "few") }
	case "ga":
		return func(n int) string {
			return first(n == 1, "one", n == 2, "two", within(n, 3, 6), "few", within(n, 7, 10), "many")
		}
	case "mt":
		return func(n int) string {
			return first(n == 1, "one", n == 2, "two", n == 0 || within(n%100, 3, 10), "few", within(n%100, 11, 19), "many")
		}
	case "he":
		return func(n int) string { return first(n == 1, "one", n == 2, "two") }
	case "ar":
		return func(n int) string {
			return first(n == 0, "zero", n == 1, "one", n == 2, "two", within(n%100, 3, 10), "few", within(n%100, 11, 99), "many")
		}
	default:
		return func(n int) string { return first(n == 1, "one") }
	}
}

func within(n, from, to int) bool { return from <= n && n <= to }

// first returns the form of the first condition that holds, "other" if none does.
func first(pairs ...any) string {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i].(bool) {
			return pairs[i+1].(string)
		}
	}
	return "other"
}
