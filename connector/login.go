package connector

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/id"

	"postern/connector/e2ee"
	"postern/connector/interop"
	"postern/connector/killpoint"
	"postern/connector/noise"
	"postern/connector/profile"
	"postern/connector/words"
	"postern/database"
)

// consentVersion numbers the text that people agree to; a changed text gets a new number.
const consentVersion = 1

// agreeWord is what a person types to agree, and agreeUnseen what one types who wants no read receipts with it.
const (
	agreeWord   = "agree"
	agreeUnseen = "agree without read receipts"
)

// GetLoginFlows implements bridgev2.NetworkConnector: one for each gatekeeper.
func (c *Connector) GetLoginFlows() []bridgev2.LoginFlow {
	flows := make([]bridgev2.LoginFlow, len(c.Config.agreements))
	for i, a := range c.Config.agreements {
		flows[i] = bridgev2.LoginFlow{
			ID: a.profile.Name, Name: a.profile.DisplayName,
			Description: "Chat with people on " + a.profile.DisplayName,
		}
	}
	return flows
}

// CreateLogin implements bridgev2.NetworkConnector.
func (c *Connector) CreateLogin(_ context.Context, user *bridgev2.User, flowID string) (bridgev2.LoginProcess, error) {
	agreed := c.Config.byName(flowID)
	if agreed == nil {
		return nil, bridgev2.ErrInvalidLoginFlowID
	}
	return &loginProcess{connector: c, user: user, agreed: agreed}, nil
}

// loginProcess is one person's way from reading what it means to being enlisted.
type loginProcess struct {
	connector  *Connector
	user       *bridgev2.User
	agreed     *agreement
	identifier string
}

var _ bridgev2.LoginProcessUserInput = (*loginProcess)(nil)

// person is what the templates can use for a Matrix user.
func person(mxid id.UserID) (personData, error) {
	localpart, domain, err := mxid.Parse()
	if err != nil {
		return personData{}, fmt.Errorf("connector: parse user: %w", err)
	}
	return personData{MXID: mxid.String(), Localpart: localpart, Domain: domain, Displayname: localpart}, nil
}

// identifierFor is the identifier of a Matrix user, normalised.
func (c *Connector) identifierFor(mxid id.UserID) (string, error) {
	data, err := person(mxid)
	if err != nil {
		return "", err
	}
	text, err := render(c.Config.identifier, data)
	if err != nil {
		return "", fmt.Errorf("connector: identifier: %w", err)
	}
	return normalise(c.Config.IdentifierType, text)
}

// displayname is the name that goes with a person's messages. known is what the person is called on Matrix, "" if that is not
// known.
func (c *Connector) displayname(mxid id.UserID, known string) string {
	data, err := person(mxid)
	if err != nil {
		return ""
	}
	if known != "" {
		data.Displayname = known
	}
	name, err := render(c.Config.displayname, data)
	if err != nil || name == "" {
		return data.Localpart
	}
	return name
}

// Start implements bridgev2.LoginProcess: it says what agreeing means.
func (l *loginProcess) Start(ctx context.Context) (*bridgev2.LoginStep, error) {
	identifier, err := l.connector.identifierFor(l.user.MXID)
	if err != nil {
		l.connector.log.Warn().Err(err).Msg("No identifier can be made of a Matrix ID")
		return nil, errors.New("no name for the other side can be made of your Matrix ID; please ask whoever runs this bridge")
	}
	l.identifier = identifier
	if err := l.free(ctx); err != nil {
		return nil, err
	}
	return &bridgev2.LoginStep{
		Type:         bridgev2.LoginStepTypeUserInput,
		StepID:       "eu.postern.consent",
		Instructions: explanation(l.agreed.profile, identifier),
		UserInputParams: &bridgev2.LoginUserInputParams{Fields: []bridgev2.LoginInputDataField{{
			Type: bridgev2.LoginInputFieldTypeUsername, ID: "consent", Name: "answer",
			Description: fmt.Sprintf("Type `%s` if you want this, or `%s`, or `cancel`.", agreeWord, agreeUnseen),
			Validate:    validAnswer,
		}}},
	}, nil
}

// validAnswer takes nothing but the words themselves for consent.
func validAnswer(answer string) (string, error) {
	answer = strings.TrimSpace(answer)
	if answer != agreeWord && answer != agreeUnseen {
		return "", fmt.Errorf("this is not an agreement: type exactly `%s` or `%s`, or `cancel`", agreeWord, agreeUnseen)
	}
	return answer, nil
}

// explanation says what is encrypted to where, and what the gatekeeper learns.
func explanation(p *profile.Profile, identifier string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(`
Please read this before you agree.

**What is encrypted to where.** Your messages are encrypted between your Matrix client and this bridge if the room is encrypted, and between this bridge and the phone of the person on GATEKEEPER always, with the Signal protocol. The two meet in this bridge: it opens every message and closes it again for the other side. Whoever runs the bridge could read them. It is not end-to-end encryption between you and the other person.

**What GATEKEEPER and its owner learn.** Your name there, which will be **IDENTIFIER**; that you use this bridge; with whom you exchange messages, when, how much, and when you were connected; not what is in the messages. People on GATEKEEPER who have switched on third-party chats can find you by that name and write to you.

**Read receipts.** With read receipts, people on GATEKEEPER see when you have read what they wrote, and you see when they have read what you wrote; without, neither. `+"`read-receipts on`"+` and `+"`read-receipts off`"+` change that at any time.

**What stays here.** Keys and waiting messages, sealed, until they are delivered; the contents of the last week, sealed, in case a phone asks for a message again. `+"`logout`"+` deletes all of it and tells GATEKEEPER to forget you.
`), "GATEKEEPER", p.DisplayName), "IDENTIFIER", identifier) + cannotCarry(words.For("en"), p)
}

// free refuses a log-in whose identifier belongs to somebody else.
func (l *loginProcess) free(ctx context.Context) error {
	row, err := l.connector.db.Accounts().ByIdentifier(ctx, l.agreed.profile.Name, l.identifier)
	if err != nil {
		l.connector.log.Err(err).Msg("Could not look up an account")
		return errSomethingWrong
	}
	if row != nil && row.MXID != l.user.MXID.String() {
		return errors.New("another Matrix user of this bridge has your name there already; please ask whoever runs this bridge")
	}
	return nil
}

var errSomethingWrong = errors.New("something is wrong with the bridge; please try again later")

// Cancel implements bridgev2.LoginProcess. Nothing is kept of a log-in that was not agreed to.
func (l *loginProcess) Cancel() {}

// SubmitUserInput implements bridgev2.LoginProcessUserInput: with the consent, the person is enlisted.
func (l *loginProcess) SubmitUserInput(ctx context.Context, input map[string]string) (*bridgev2.LoginStep, error) {
	answer, err := validAnswer(input["consent"])
	if err != nil {
		return nil, err
	}
	killpoint.Hit(killpoint.LoginAgreed)
	row, err := l.enlist(ctx)
	if err != nil {
		return nil, err
	}
	killpoint.Hit(killpoint.LoginStored)
	login, err := l.user.NewLogin(ctx, &frameworkdb.UserLogin{
		ID:         loginID(row.ID),
		RemoteName: row.Identifier,
		Metadata:   &LoginMetadata{Gatekeeper: row.Gatekeeper, NoReadReceipts: answer == agreeUnseen},
	}, nil)
	if err != nil {
		l.connector.resume(row.ID)
		l.connector.log.Err(err).Str("account", row.ID).Msg("Could not store a login")
		return nil, errSomethingWrong
	}
	killpoint.Hit(killpoint.LoginNoted)
	login.Client.Connect(login.Log.WithContext(l.connector.ctx))
	gatekeeper := l.agreed.profile.DisplayName
	return &bridgev2.LoginStep{
		Type:   bridgev2.LoginStepTypeComplete,
		StepID: "eu.postern.complete",
		Instructions: fmt.Sprintf("You are on %s as **%s**. `start-chat +49…` opens a chat with a phone number; people there can also write to you first.",
			gatekeeper, row.Identifier),
		CompleteParams: &bridgev2.LoginCompleteParams{UserLoginID: login.ID, UserLogin: login},
	}, nil
}

// enlist makes the account, or takes the one that an earlier log-in of the same person has left, and makes it known at the
// gatekeeper. The keys are on disk before they are shown to anybody, so that a log-in which is cut off goes on
// with them.
func (l *loginProcess) enlist(ctx context.Context) (*database.Account, error) {
	c := l.connector
	c.enlisting.Lock()
	defer c.enlisting.Unlock()
	if err := l.free(ctx); err != nil {
		return nil, err
	}
	row, err := c.db.Accounts().ByIdentifier(ctx, l.agreed.profile.Name, l.identifier)
	if err != nil {
		c.log.Err(err).Msg("Could not look up an account")
		return nil, errSomethingWrong
	}
	if row == nil {
		if row, err = l.newAccount(ctx); err != nil {
			c.log.Err(err).Msg("Could not make an account")
			return nil, errSomethingWrong
		}
	}
	if client, ok := c.running(row.ID); ok {
		client.Disconnect() // its stream would be replaced by the new enlistment, and it would stop by that
	}
	row.ConsentVersion, row.ConsentAt = consentVersion, time.Now().UnixMilli()
	if err := c.enlist(ctx, l.agreed.profile, row); err != nil {
		c.resume(row.ID)
		return nil, enlistmentWords(err, l.agreed.profile.DisplayName)
	}
	if err := c.db.Accounts().Put(ctx, row); err != nil {
		c.resume(row.ID)
		c.log.Err(err).Str("account", row.ID).Msg("Could not store an account")
		return nil, errSomethingWrong
	}
	return row, nil
}

// running is the client of an account, if one is loaded.
func (c *Connector) running(account string) (*client, bool) {
	login := c.bridge.GetCachedUserLoginByID(loginID(account))
	if login == nil {
		return nil, false
	}
	cl, ok := login.Client.(*client)
	return cl, ok
}

// resume connects the earlier login of an account again when a later one has failed: what it carries must not wait
// because somebody tried.
func (c *Connector) resume(account string) {
	if client, ok := c.running(account); ok {
		client.Connect(client.login.Log.WithContext(c.ctx))
	}
}

// newAccount makes keys and stores them.
func (l *loginProcess) newAccount(ctx context.Context) (*database.Account, error) {
	static, err := noise.GenerateKeyPair(rand.Reader)
	if err != nil {
		return nil, err
	}
	device, err := e2ee.NewDevice(rand.Reader)
	if err != nil {
		return nil, err
	}
	stanzaKey := make([]byte, 32)
	if _, err := rand.Read(stanzaKey); err != nil {
		return nil, err
	}
	row := &database.Account{
		ID: database.NewLocalID(), Gatekeeper: l.agreed.profile.Name, MXID: l.user.MXID.String(), Identifier: l.identifier,
		NoiseKey: static.Private[:], Device: device.Marshal(), HMACKey: stanzaKey,
		ConsentVersion: consentVersion, ConsentAt: time.Now().UnixMilli(), CreatedAt: time.Now().UnixMilli(),
	}
	return row, l.connector.db.Accounts().Put(ctx, row)
}

// enlist makes an account known at the gatekeeper, or replaces its keys there (PROTOCOL.md 3), and fills in what the
// gatekeeper answers. The caller stores the row.
func (c *Connector) enlist(ctx context.Context, p *profile.Profile, row *database.Account) error {
	static, err := noise.KeyPairFromPrivate([noise.KeySize]byte(row.NoiseKey))
	if err != nil {
		return err
	}
	device, err := e2ee.UnmarshalDevice(row.Device)
	if err != nil {
		return err
	}
	signed, err := c.signedPreKey(ctx, row, device)
	if err != nil {
		return err
	}
	token, err := c.issuer.TokenWithClaim(ctx, p.Token.IdentifierClaim, row.Identifier, p.Token.Audience)
	if err != nil {
		return err
	}
	killpoint.Hit(killpoint.LoginKeyed)
	result, err := interop.Enlist(ctx, interop.EnlistRequest{
		Profile: p, NoiseKey: static.Public, RegistrationID: device.RegistrationID, IdentityKey: device.IdentityPublic,
		SignedPreKeyID: signed.ID, SignedPreKey: signed.Public, SignedPreKeySignature: signed.Signature, Token: token,
	})
	if err != nil {
		return err
	}
	killpoint.Hit(killpoint.LoginEnlisted)
	row.Login, row.Integrator, row.EnlistedAt = result.Login.String(), result.Login.Integrator, time.Now().UnixMilli()
	if result.Identifier != "" {
		row.Identifier = result.Identifier
	}
	return nil
}

// signedPreKey is the newest signed prekey of an account that can be read, made now if it has none.
func (c *Connector) signedPreKey(ctx context.Context, row *database.Account, device *e2ee.Device) (e2ee.SignedPreKey, error) {
	store := NewAccountStore(c.db, row.ID, row.Gatekeeper)
	keys, err := store.SignedPreKeys(ctx)
	if err != nil {
		return e2ee.SignedPreKey{}, err
	}
	created := time.Now().UnixMilli()
	for _, k := range keys {
		if key, err := e2ee.UnmarshalSignedPreKey(k.ID, k.Record); err == nil {
			return key, nil
		}
		// Damaged: the new one is to be newer by its time too.
		created = max(created, k.Created+1)
		c.log.Error().Str("account", row.ID).Uint32("id", k.ID).Msg("a signed prekey is damaged and passed over")
	}
	id, err := store.ReserveSignedPreKeyID(ctx)
	if err != nil {
		return e2ee.SignedPreKey{}, err
	}
	key, err := device.GenerateSignedPreKey(id)
	if err != nil {
		return e2ee.SignedPreKey{}, err
	}
	return key, store.PutSignedPreKey(ctx, interop.KeyRecord{ID: key.ID, Record: key.Marshal(), Created: created})
}

// enlistmentWords says to a person why the gatekeeper did not take them.
func enlistmentWords(err error, gatekeeper string) error {
	var refused *interop.EnlistError
	if !errors.As(err, &refused) {
		return errSomethingWrong
	}
	switch refused.Reason {
	case interop.EnlistBlocked:
		return fmt.Errorf("%s has blocked you, or this bridge", gatekeeper)
	case interop.EnlistNotAllowed:
		return fmt.Errorf("%s does not offer third-party chats in your region", gatekeeper)
	case interop.EnlistBadIntegrator, interop.EnlistBadToken, interop.EnlistBadParam, interop.EnlistMissingParam, interop.EnlistOldVersion:
		return fmt.Errorf("%s refused this bridge (%s); please tell whoever runs it", gatekeeper, refused.Reason)
	case interop.EnlistUnavailable, interop.EnlistNoAnswer, interop.EnlistHTTP, interop.EnlistNotJSON:
		return fmt.Errorf("%s does not answer properly at the moment (%s); please try again later", gatekeeper, refused.Reason)
	}
	return fmt.Errorf("%s refused (%s)", gatekeeper, refused.Reason)
}
