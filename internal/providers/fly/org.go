package fly

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// userAgent tells Fly's people who asks.
const userAgent = "forged"

// Org is one organization on Fly, as one token sees it.
type Org struct {
	accounts *Accounts
	account  forge.FlyAccount
	key      string
	log      *slog.Logger

	mu          sync.Mutex
	client      *api.Client
	tried       *api.Client  // newest one: of a token that may have been refused; it knows what was asked lately
	token       secret.Value // what tried was made with
	refused     bool         // the token was called invalid since it was read
	asked       time.Time    // when what refused it was asked last
	refusal     error        // and what it said
	topics      map[Topic]*topic
	polled      polled
	inventories map[inventoryKey]*inventorySlot
}

func newOrg(a *Accounts, account forge.FlyAccount) *Org {
	return &Org{
		accounts: a, account: account, key: orgKey(account), log: a.log.With("org", account.Org),
		topics: map[Topic]*topic{}, inventories: map[inventoryKey]*inventorySlot{},
	}
}

// Slug is the name of the organization.
func (o *Org) Slug() string { return o.account.Org }

// Instance is the name of this forged.
func (o *Org) Instance() string { return o.accounts.options.Instance }

// Client is for one action: after a token was replaced, it is another one.
func (o *Org) Client() *api.Client {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.client
}

// rejected tells that Fly no longer takes the token.
func (o *Org) rejected() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.refused
}

func (o *Org) object() string { return "organization " + o.account.Org }

// authenticate reads the token and looks at what it is good for. A token that
// was refused is read again; the same one is not asked about again at once.
func (o *Org) authenticate(ctx context.Context) error {
	const op = "use the token of"
	token, err := o.accounts.options.Resolver.Resolve(ctx, o.account.Token)
	if err != nil {
		kind := reconcile.Denied
		if secret.MayPass(err) {
			kind = reconcile.Unavailable
		}
		return &reconcile.Error{Kind: kind, Op: op, Object: o.object(), Err: err, Hint: o.tokenHint()}
	}
	o.mu.Lock()
	client, same := o.tried, bytes.Equal(o.token.Reveal(), token.Reveal())
	if same && o.refusal != nil && time.Since(o.asked) < o.accounts.tick {
		defer o.mu.Unlock()
		return o.refusal
	}
	o.mu.Unlock()
	if client == nil || !same {
		client, err = api.New(api.Options{
			Endpoints: o.accounts.options.Endpoints, Token: token, HTTP: o.accounts.fence.over(o.accounts.options.HTTP),
			UserAgent: userAgent, OnRequest: o.onRequest, Logger: o.log,
		})
		if err != nil {
			return &reconcile.Error{Kind: reconcile.Denied, Op: op, Object: o.object(), Err: err, Hint: o.tokenHint()}
		}
	}
	o.mu.Lock()
	o.tried, o.token, o.refusal = client, token, nil
	o.mu.Unlock()
	err = o.check(ctx, client)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case reconcile.KindOf(err) == reconcile.Denied:
		o.asked, o.refusal = time.Now(), err
		return err
	case err != nil:
		return Classify(op, o.object(), err)
	}
	o.client, o.refused = client, false
	return nil
}

// tokenHint says how to come by a token, and where forged looks for it.
func (o *Org) tokenHint() string {
	return "make one with: fly tokens create org --org " + o.account.Org + "; it goes where platform.token says, FLY_API_TOKEN unless told otherwise"
}

// check asks what a token is good for.
func (o *Org) check(ctx context.Context, client *api.Client) error {
	const op = "use the token of"
	scope, err := client.TokenScope(ctx)
	if api.KindOf(err) == api.NotFound {
		return nil // an API that does not tell
	}
	if err != nil {
		return Classify(op, o.object(), err)
	}
	denied := func(format string, args ...any) error {
		err := reconcile.Errorf(reconcile.Denied, op, format, args...)
		err.Object = o.object()
		err.Hint = o.tokenHint()
		return err
	}
	switch {
	case scope.Machine != "":
		return denied("it may be used by machine %s only", scope.Machine)
	case len(scope.Orgs) > 0 && !slices.ContainsFunc(scope.Orgs, o.is):
		return denied("it belongs to the organization %s", listOf(scope.Orgs))
	case len(scope.Apps) > 0:
		return denied("it is good for %s only, and forged makes apps of its own", listOf(scope.Apps))
	}
	return nil
}

// onRequest is told of every answer.
func (o *Org) onRequest(action string, status int, took time.Duration) {
	if status == http.StatusUnauthorized {
		o.mu.Lock()
		o.refused = true
		o.mu.Unlock()
	}
	if f := o.accounts.options.OnRequest; f != nil {
		f(o.account.Org, action, status, took)
	}
}

// is tells whether a slug names this organization. Everybody's own is also
// called "personal".
func (o *Org) is(slug string) bool { return slug == o.account.Org || o.account.Org == "personal" }
