package secret

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/secret/sops"
)

// maxEncrypted is the most an encrypted file may have.
const maxEncrypted = 8 << 20

// keyLimit is how long asking for the key of one file may take.
const keyLimit = 30 * time.Second

// decrypted is a file as it was when a pass opened it. As long as its content
// is the same, so are its values, and no key service is asked again.
type decrypted struct {
	sum [sha256.Size]byte
	doc *sops.Document
}

// opened is what a pass got of a file. It asks once, even if in vain.
type opened struct {
	doc *sops.Document
	err error
}

// sops reads one value of an encrypted file.
func (p *Pass) sops(ctx context.Context, ref forge.SOPSRef) ([]byte, error) {
	path := p.path(ref.File)
	file, ok := p.files[path]
	if !ok {
		file.doc, file.err = p.open(ctx, path)
		if ctx.Err() == nil {
			p.files[path] = file
		}
	}
	if file.err != nil {
		return nil, file.err
	}
	raw, err := file.doc.Lookup(ref.Key)
	if err != nil {
		return nil, fmt.Errorf("file %s %w", path, err)
	}
	return raw, nil
}

func (p *Pass) open(ctx context.Context, path string) (*sops.Document, error) {
	raw, err := readFile(path, maxEncrypted+1)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxEncrypted {
		return nil, fmt.Errorf("file %s has more than %d bytes", path, maxEncrypted)
	}
	sum := sha256.Sum256(raw)
	p.mu.Lock()
	old, ok := p.decrypted[path]
	p.mu.Unlock()
	if ok && old.sum == sum {
		return old.doc, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, keyLimit, fmt.Errorf("%w: nothing gave its key within %s", sops.ErrKeyService, keyLimit))
	defer cancel()
	doc, err := p.opener.Open(ctx, path, raw)
	switch {
	case errors.Is(err, sops.ErrKeyService):
		return nil, unread(failure(fmt.Sprintf("file %s %s", path, err)))
	case errors.Is(err, sops.ErrNoIdentity):
		return nil, unread(fmt.Errorf("file %s %w", path, err))
	case err != nil:
		return nil, fmt.Errorf("file %s %w", path, err)
	}
	p.mu.Lock()
	if p.decrypted == nil {
		p.decrypted = map[string]decrypted{}
	}
	p.decrypted[path] = decrypted{sum, doc}
	p.mu.Unlock()
	return doc, nil
}
