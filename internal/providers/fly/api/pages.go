package api

import "errors"

// pages reads a list to its end, page by page.
func pages[T any](action string, page func(cursor string) (list []T, next string, err error)) ([]T, error) {
	var all []T
	seen := map[string]bool{}
	for cursor := ""; ; {
		list, next, err := page(cursor)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
		if next == "" {
			return all, nil
		}
		if seen[next] {
			return nil, &Error{Kind: Unavailable, Action: action, Err: errors.New("the list does not end: Fly names the same next page twice")}
		}
		seen[next] = true
		cursor = next
	}
}
