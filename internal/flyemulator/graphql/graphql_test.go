package graphql

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

const text = `
schema { query: Queries mutation: Mutations }
scalar ISO8601DateTime
scalar BigInt
scalar JSON
interface Named { name: String! }
type Cat implements Named { name: String! lives: Int! }
type Dog implements Named { name: String! born: ISO8601DateTime! tag: BigInt! notes: JSON }
enum Size { SMALL LARGE }
type Queries {
  pet(name: String!, loud: Boolean = true): Named
  pets: [Named]
  sure: [Cat!]!
  size: Size
  text: String
  broken: String!
  wrong: Int
  missing: String
}
input Food { what: String! grams: Int = 5 }
type Mutations { feed(input: Food!): String tell(appId: ID!): String }
`

func roots() (query, mutation map[string]any) {
	cat := Object{Type: "Cat", Fields: map[string]any{"name": "Tom", "lives": 9}}
	dog := Object{Type: "Dog", Fields: map[string]any{
		"name": "Rex", "born": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "tag": int64(1) << 40, "notes": map[string]any{"a": 1},
	}}
	query = map[string]any{
		"pet": With(func(in struct {
			Name string
			Loud bool
		},
		) (any, error) {
			switch {
			case in.Name == "Tom" && in.Loud:
				return cat, nil
			case in.Name == "Rex":
				return &dog, nil
			}
			return nil, Fail("NOT_FOUND", "Could not find %s", in.Name)
		}),
		"pets":   []Object{cat, dog},
		"sure":   []any{cat, Object{Type: "Cat", Fields: map[string]any{"name": "Ghost", "lives": nil}}},
		"size":   "LARGE",
		"text":   "hello",
		"broken": Resolver(func(map[string]any) (any, error) { return nil, errors.New("out of order") }),
		"wrong":  "seven",
	}
	mutation = map[string]any{
		"feed": With(func(in struct {
			Input struct {
				What  string
				Grams int
			}
		},
		) (any, error) {
			return strings.Repeat(in.Input.What, in.Input.Grams), nil
		}),
		"tell": With(func(in struct{ AppID string }) (any, error) { return in.AppID, nil }),
	}
	return query, mutation
}

func TestRun(t *testing.T) {
	for name, c := range map[string]struct {
		query, vars, op string
		want            string
	}{
		"a field":                {query: `{text}`, want: `{"data":{"text":"hello"}}`},
		"aliases":                {query: `{a:text b:text size}`, want: `{"data":{"a":"hello","b":"hello","size":"LARGE"}}`},
		"typename":               {query: `{__typename pets{__typename}}`, want: `{"data":{"__typename":"Queries","pets":[{"__typename":"Cat"},{"__typename":"Dog"}]}}`},
		"arguments and defaults": {query: `{pet(name:"Tom"){name}}`, want: `{"data":{"pet":{"name":"Tom"}}}`},
		"variables":              {query: `query($n:String!){pet(name:$n){name}}`, vars: `{"n":"Rex"}`, want: `{"data":{"pet":{"name":"Rex"}}}`},
		"fragments": {
			query: `query{pets{name ...C ...on Dog{born tag notes}}} fragment C on Cat{lives}`,
			want:  `{"data":{"pets":[{"lives":9,"name":"Tom"},{"born":"2026-01-02T03:04:05Z","name":"Rex","notes":{"a":1},"tag":"1099511627776"}]}}`,
		},
		"the same field twice": {query: `{pet(name:"Tom"){name} pet(name:"Tom"){...on Cat{lives}}}`, want: `{"data":{"pet":{"lives":9,"name":"Tom"}}}`},
		"skip and include":     {query: `query($y:Boolean!){text @skip(if:$y) size @include(if:$y)}`, vars: `{"y":true}`, want: `{"data":{"size":"LARGE"}}`},
		"one of several operations": {
			query: `query A{text} query B{size}`, op: "B", want: `{"data":{"size":"LARGE"}}`,
		},
		"a mutation and an input's default": {query: `mutation($i:Food!){feed(input:$i)}`, vars: `{"i":{"what":"x","grams":3}}`, want: `{"data":{"feed":"xxx"}}`},
		"an error leaves the other fields": {
			query: `{a:pet(name:"Tom"){name} b:pet(name:"Nobody"){name}}`,
			want:  `{"data":{"a":{"name":"Tom"},"b":null},"errors":[{"message":"Could not find Nobody","locations":[{"line":1,"column":26}],"path":["b"],"extensions":{"code":"NOT_FOUND"}}]}`,
		},
		"an error where a value must be takes all": {
			query: `{text broken}`,
			want:  `{"data":null,"errors":[{"message":"out of order","locations":[{"line":1,"column":7}],"path":["broken"]}]}`,
		},
		"null inside of a list that has none": {
			query: `{sure{lives}}`,
			want:  `{"data":null,"errors":[{"message":"sure.1.lives is null, which it must not be","locations":[{"line":1,"column":7}],"path":["sure",1,"lives"]}]}`,
		},
		"a value of the wrong type": {
			query: `{wrong}`,
			want:  `{"data":{"wrong":null},"errors":[{"message":"wrong is a string, not a Int","locations":[{"line":1,"column":2}],"path":["wrong"]}]}`,
		},
		"a field nobody resolves": {
			query: `{missing}`,
			want:  `{"data":{"missing":null},"errors":[{"message":"Queries.missing is not emulated","locations":[{"line":1,"column":2}],"path":["missing"]}]}`,
		},
		"no query":  {query: ` `, want: `{"errors":[{"message":"No query string was present"}]}`},
		"no syntax": {query: `{text`, want: `{"errors":[{"message":"Parse error: Expected Name, found \u003cEOF\u003e","locations":[{"line":1,"column":6}]}]}`},
		"an unknown field": {
			query: `{nothing}`,
			want:  `{"errors":[{"message":"Field 'nothing' doesn't exist on type 'Queries'","locations":[{"line":1,"column":2}],"extensions":{"code":"undefinedField"}}]}`,
		},
		"an unknown argument": {
			query: `mutation{tell(appName:"x", appId:"y")}`,
			want:  `{"errors":[{"message":"Field 'tell' doesn't accept argument 'appName'","locations":[{"line":1,"column":10}],"extensions":{"code":"argumentNotAccepted"}}]}`,
		},
		"a missing argument": {
			query: `mutation{tell}`,
			want:  `{"errors":[{"message":"Field 'tell' is missing required arguments: appId","locations":[{"line":1,"column":10}],"extensions":{"code":"missingRequiredArguments"}}]}`,
		},
		"an unknown field of an input": {
			query: `mutation{feed(input:{what:"x",salt:1})}`,
			want:  `{"errors":[{"message":"InputObject 'Food' doesn't accept argument 'salt'","locations":[{"line":1,"column":31}],"extensions":{"code":"argumentNotAccepted"}}]}`,
		},
		"an unknown field in a variable": {
			query: `mutation($i:Food!){feed(input:$i)}`, vars: `{"i":{"what":"x","salt":1}}`,
			want: `{"errors":[{"message":"Variable $i of type Food! was provided invalid value for salt (Field is not defined on Food)","extensions":{"problems":[{"explanation":"Field is not defined on Food","path":["salt"]}]}}]}`,
		},
		"a variable that is missing": {
			query: `mutation($i:Food!){feed(input:$i)}`,
			want:  `{"errors":[{"message":"Variable $i of type Food! was provided invalid value","extensions":{"problems":[{"explanation":"must be defined","path":null}]}}]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Load(text)
			if err != nil {
				t.Fatal(err)
			}
			r := Request{Query: c.query, OperationName: c.op}
			if c.vars != "" {
				if err := json.Unmarshal([]byte(c.vars), &r.Variables); err != nil {
					t.Fatal(err)
				}
			}
			query, mutation := roots()
			got, err := json.Marshal(s.Run(r, query, mutation))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestWhatIsRemovedIsUnknown(t *testing.T) {
	for path, query := range map[string]string{
		"Queries.text":         `{text}`,
		"Mutations.feed":       `mutation{feed(input:{what:"x"})}`,
		"Mutations.tell.appId": `mutation{tell(appId:"x")}`,
		"Food.grams":           `mutation{feed(input:{what:"x",grams:1})}`,
		"Dog.born":             `{pets{...on Dog{born}}}`,
		"Queries.pet.loud":     `{pet(name:"Tom",loud:true){name}}`,
		"Cat.lives":            `{pets{...on Cat{lives}}}`,
		"Queries.sure":         `{sure{name}}`,
		"Queries.size":         `{size}`,
		"Queries.pets":         `{pets{name}}`,
		"Queries.wrong":        `{wrong}`,
		"Queries.missing":      `{missing}`,
		"Queries.broken":       `{broken}`,
		"Mutations.tell":       `mutation{tell(appId:"x")}`,
		"Mutations.feed.input": `mutation{feed(input:{what:"x"})}`,
		"Queries.pet":          `{pet(name:"Tom"){name}}`,
		"Queries.pet.name":     `{pet(name:"Tom"){name}}`,
	} {
		query0, mutation := roots()
		s, err := Load(text, path)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Run(Request{Query: query}, query0, mutation); got.Data != nil || len(got.Errors) == 0 {
			t.Errorf("without %s: %s is still answered: %+v", path, query, got)
		}
	}
	for _, path := range []string{"Nobody.text", "Queries", "Queries.nothing", "Queries.pet.nothing", "a.b.c.d"} {
		if _, err := Load(text, path); err == nil {
			t.Errorf("%q was removed", path)
		}
	}
	if _, err := Load("type {"); err == nil {
		t.Error("a schema that is none was loaded")
	}
}
