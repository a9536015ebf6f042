package connector

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/format"
	"maunium.net/go/mautrix/id"

	"postern/connector/e2ee"
	"postern/connector/email"
	"postern/connector/interop"
	"postern/connector/killpoint"
	"postern/connector/noise"
	"postern/connector/profile"
	"postern/connector/words"
	"postern/database"
)

// GetLoginFlows implements bridgev2.NetworkConnector: one for each gatekeeper.
func (c *Connector) GetLoginFlows() []bridgev2.LoginFlow {
	flows := make([]bridgev2.LoginFlow, len(c.Config.agreements))
	for i, a := range c.Config.agreements {
		flows[i] = bridgev2.LoginFlow{
			ID: a.profile.Name, Name: a.profile.DisplayName,
			Description: c.standardWords().Text("login.flow", "gatekeeper", a.profile.DisplayName),
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
	return &loginProcess{connector: c, user: user, agreed: agreed, words: c.wordsFor(user.MXID)}, nil
}

// loginProcess is one person's way from where they are and what they are called, to reading what it means, to being enlisted.
type loginProcess struct {
	connector *Connector
	user      *bridgev2.User
	agreed    *agreement
	words     words.Words

	admitted   bool   // by the gate for regions
	country    string // what the person has declared in this login, "" for nothing
	identifier string // "" until it is known
	proof      *email.Proof
	proven     bool // the identifier is an address that was proven
	text       string
	// answer takes what the person types next.
	answer func(ctx context.Context, text string) (*bridgev2.LoginStep, error)
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

// answerField is the one field of each step.
const answerField = "answer"

// inputStep is a step that asks for one thing.
func inputStep(name, instructions string, field bridgev2.LoginInputDataField) *bridgev2.LoginStep {
	field.ID = answerField
	return &bridgev2.LoginStep{
		Type: bridgev2.LoginStepTypeUserInput, StepID: "eu.postern." + name, Instructions: instructions,
		UserInputParams: &bridgev2.LoginUserInputParams{Fields: []bridgev2.LoginInputDataField{field}},
	}
}

// Start implements bridgev2.LoginProcess.
func (l *loginProcess) Start(ctx context.Context) (*bridgev2.LoginStep, error) {
	step, err := l.next(ctx)
	return step, overHTTP(err)
}

// next is the next thing to ask: where the person is, what they are called, and whether they agree.
func (l *loginProcess) next(ctx context.Context) (*bridgev2.LoginStep, error) {
	if err := l.connector.belongsElsewhere(ctx, l.user.MXID, l.words); err != nil {
		return nil, err
	}
	if l.connector.suspended.has(l.user.MXID) {
		return nil, l.connector.suspendedWords(l.words)
	}
	if text := l.connector.maintenanceWords(l.words); text != "" {
		return nil, errors.New(text)
	}
	if !l.admitted {
		if step, err := l.passGate(ctx); step != nil || err != nil {
			return step, err
		}
	}
	if l.identifier == "" {
		if step, err := l.chooseIdentifier(ctx); step != nil || err != nil {
			return step, err
		}
	}
	if err := l.free(ctx); err != nil {
		return nil, err
	}
	l.answer = l.takeConsent
	l.text = l.connector.consentText(l.words, l.agreed.profile, l.identifier)
	return inputStep("consent", l.text, bridgev2.LoginInputDataField{
		Type: bridgev2.LoginInputFieldTypeUsername, Name: l.words.Text("consent.field"),
		Description: l.words.Text("consent.describe", "agree", l.words.Text("consent.agree"), "unseen", l.words.Text("consent.agree-unseen")),
		Validate: func(text string) (string, error) {
			if _, err := validAnswer(l.words, text); err != nil {
				return "", err
			}
			return text, nil
		},
	}), nil
}

// passGate asks the gate for regions, and before that the person, where their own word counts.
func (l *loginProcess) passGate(ctx context.Context) (*bridgev2.LoginStep, error) {
	c := l.connector
	v, err := c.admit(ctx, l.user.MXID)
	if err != nil {
		c.log.Err(err).Msg("Could not ask the gate for regions")
		return nil, l.words.Error("error.wrong")
	}
	switch {
	case v == regionAdmitted:
		l.admitted = true
		return nil, nil
	case v == regionUnknown:
		return nil, l.words.Error("region.unknown")
	case c.Config.Region.Gate == gateDeclaration && l.country == "":
		l.answer = l.takeCountry
		options := append(slices.Clone(c.Config.Region.Countries), otherCountry)
		return inputStep("region", l.words.Text("region.ask", "gatekeeper", l.agreed.profile.DisplayName, "days", c.Config.Region.DeclarationDays),
			bridgev2.LoginInputDataField{
				Type: bridgev2.LoginInputFieldTypeSelect, Name: l.words.Text("region.field"), Description: l.words.Text("region.describe", "other", otherCountry),
				Options: options, Validate: func(text string) (string, error) {
					for _, option := range options {
						if strings.EqualFold(option, strings.TrimSpace(text)) {
							return option, nil
						}
					}
					return "", l.words.Error("region.not-one")
				},
			}), nil
	}
	return nil, l.words.Error("region.refused", "gatekeeper", l.agreed.profile.DisplayName, "contact", c.contact(l.words))
}

// otherCountry is what people choose whose country is not among those that may join.
const otherCountry = "other"

// takeCountry stores what the person declares, if it lets them in. Of anybody else nothing is kept.
func (l *loginProcess) takeCountry(ctx context.Context, country string) (*bridgev2.LoginStep, error) {
	c := l.connector
	country = strings.ToUpper(strings.TrimSpace(country))
	if !slices.Contains(c.Config.Region.Countries, country) {
		return nil, l.words.Error("region.refused", "gatekeeper", l.agreed.profile.DisplayName, "contact", c.contact(l.words))
	}
	l.country = country
	row := &database.Region{MXID: l.user.MXID.String(), Country: country, Declared: time.Now().UnixMilli()}
	if err := c.db.Regions().Put(ctx, row); err != nil {
		c.log.Err(err).Msg("Could not store where somebody is")
		return nil, l.words.Error("error.wrong")
	}
	return l.next(ctx)
}

// validAnswer takes nothing but the words themselves for consent, in the language that was read or in English.
func validAnswer(w words.Words, answer string) (receipts bool, err error) {
	answer = strings.TrimSpace(answer)
	for _, spoken := range []words.Words{w, words.For(words.Default)} {
		switch { // the keyboards of phones begin with a capital letter
		case strings.EqualFold(answer, spoken.Text("consent.agree")):
			return true, nil
		case strings.EqualFold(answer, spoken.Text("consent.agree-unseen")):
			return false, nil
		}
	}
	return false, w.Error("consent.not-one", "agree", w.Text("consent.agree"), "unseen", w.Text("consent.agree-unseen"))
}

// free refuses a log-in whose identifier belongs to somebody else.
func (l *loginProcess) free(ctx context.Context) error {
	if l.connector.suspended.has(l.user.MXID) {
		return l.connector.suspendedWords(l.words)
	}
	if text := l.connector.maintenanceWords(l.words); text != "" {
		return errors.New(text)
	}
	row, err := l.connector.db.Accounts().ByIdentifier(ctx, l.agreed.profile.Name, l.identifier)
	if err != nil {
		l.connector.log.Err(err).Msg("Could not look up an account")
		return l.words.Error("error.wrong")
	}
	if row != nil && row.MXID != l.user.MXID.String() {
		return l.words.Error("login.taken", "contact", l.connector.contact(l.words))
	}
	return l.connector.notLeaving(ctx, l.words, row)
}

// Cancel implements bridgev2.LoginProcess. Nothing is kept of a log-in that was not agreed to.
func (l *loginProcess) Cancel() {
	if err := l.connector.forgetRegion(l.connector.ctx, l.user.MXID); err != nil {
		l.connector.log.Err(err).Msg("Could not forget where somebody is")
	}
}

// SubmitUserInput implements bridgev2.LoginProcessUserInput.
func (l *loginProcess) SubmitUserInput(ctx context.Context, input map[string]string) (*bridgev2.LoginStep, error) {
	if l.answer == nil {
		return nil, overHTTP(l.words.Error("error.wrong"))
	}
	step, err := l.answer(ctx, input[answerField])
	return step, overHTTP(err)
}

// takeConsent enlists the person who has agreed.
func (l *loginProcess) takeConsent(ctx context.Context, text string) (*bridgev2.LoginStep, error) {
	receipts, err := validAnswer(l.words, text)
	if err != nil {
		return nil, err
	}
	killpoint.Hit(killpoint.LoginAgreed)
	row, err := l.enlist(ctx, receipts)
	if err != nil {
		return nil, err
	}
	killpoint.Hit(killpoint.LoginStored)
	login, err := l.user.NewLogin(ctx, newLoginRow(row, &LoginMetadata{Gatekeeper: row.Gatekeeper, NoReadReceipts: !receipts}), nil)
	if err != nil {
		l.connector.resume(row.ID)
		l.connector.log.Err(err).Str("account", row.ID).Msg("Could not store a login")
		return nil, l.words.Error("error.wrong")
	}
	killpoint.Hit(killpoint.LoginNoted)
	login.Client.Connect(login.Log.WithContext(l.connector.ctx))
	return &bridgev2.LoginStep{
		Type: bridgev2.LoginStepTypeComplete, StepID: "eu.postern.complete",
		Instructions:   l.words.Text("login.done", "gatekeeper", l.agreed.profile.DisplayName, "identifier", format.EscapeMarkdown(row.Identifier)),
		CompleteParams: &bridgev2.LoginCompleteParams{UserLoginID: login.ID, UserLogin: login},
	}, nil
}

// newLoginRow is the framework's row of an account's login.
func newLoginRow(row *database.Account, meta *LoginMetadata) *frameworkdb.UserLogin {
	return &frameworkdb.UserLogin{ID: loginID(row.ID), RemoteName: row.Identifier, Metadata: meta}
}

// errTaken: the gatekeeper has answered with an identifier that another account has.
var errTaken = errors.New("connector: enlist: the identifier belongs to another account")

// enlist makes the account, or takes the one that an earlier log-in of the same person has left, and makes it known at the
// gatekeeper. The keys and the consent are on disk before anything is shown to anybody, so that a log-in which is cut off goes on
// with them.
func (l *loginProcess) enlist(ctx context.Context, receipts bool) (*database.Account, error) {
	c := l.connector
	c.enlisting.Lock()
	defer c.enlisting.Unlock()
	if err := l.free(ctx); err != nil {
		return nil, err
	}
	if err := c.claim(ctx, l.user.MXID, l.agreed.profile.Name, l.identifier); err != nil {
		return nil, l.claimWords(ctx, err)
	}
	row, err := c.db.Accounts().ByIdentifier(ctx, l.agreed.profile.Name, l.identifier)
	if err == nil && row == nil {
		row, err = l.newAccount(ctx)
	}
	if err == nil {
		err = l.storeConsent(ctx, row, receipts)
	}
	if err != nil {
		c.log.Err(err).Msg("Could not make an account")
		return nil, l.words.Error("error.wrong")
	}
	if client, ok := c.running(row.ID); ok {
		client.Disconnect() // its stream would be replaced by the new enlistment, and it would stop by that
	}
	if err := c.enlist(ctx, l.agreed.profile, row); err != nil {
		c.resume(row.ID)
		if !errors.As(err, new(*interop.EnlistError)) {
			c.log.Err(err).Str("account", row.ID).Msg("Could not enlist an account")
		}
		return nil, l.enlistmentWords(err)
	}
	return row, nil
}

// claimWords says to a person why they, or the name that they want, do not belong here.
func (l *loginProcess) claimWords(ctx context.Context, err error) error {
	if errors.Is(err, errElsewhere) {
		if told := l.connector.belongsElsewhere(ctx, l.user.MXID, l.words); told != nil {
			return told
		}
	}
	if !errors.Is(err, errTaken) {
		l.connector.log.Err(err).Msg("Could not note to which instance a user belongs")
	}
	return l.enlistmentWords(err)
}

// storeConsent stores that the person has agreed to the text that they were shown, with the account that it is for.
func (l *loginProcess) storeConsent(ctx context.Context, row *database.Account, receipts bool) error {
	c := l.connector
	country := l.country
	if region, err := c.db.Regions().Get(ctx, row.MXID); err != nil {
		return err
	} else if country == "" {
		country = region.Country
	}
	consent, err := c.newConsent(l.words, row.ID, consentDocument{
		Text: l.text, Gatekeeper: row.Gatekeeper, Identifier: l.identifier, Source: c.Config.Identifier.Mode, ReadReceipts: receipts, Country: country,
	})
	if err != nil {
		return err
	}
	row.ConsentVersion, row.ConsentAt = consentForm, consent.At
	return c.db.Do(ctx, func(ctx context.Context) error {
		if err := c.db.Accounts().Put(ctx, row); err != nil {
			return err
		}
		return c.db.Consents().Add(ctx, consent)
	})
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

// newAccount makes keys. The caller stores them.
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
		CreatedAt: time.Now().UnixMilli(),
	}
	return row, nil
}

// enlist makes an account known at the gatekeeper, or replaces its keys there (PROTOCOL.md 3), and fills in what the
// gatekeeper answers. It stores the row. A normalised identifier in the answer takes the place of ours.
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
	asked := row.Identifier
	if result.Identifier != "" && result.Identifier != asked {
		if !usable(result.Identifier) {
			c.log.Warn().Str("account", row.ID).Msg("Gatekeeper answers with an identifier that cannot be one; ours stays")
		} else if other, err := c.db.Accounts().ByIdentifier(ctx, row.Gatekeeper, result.Identifier); err != nil {
			return err
		} else if other != nil && other.ID != row.ID {
			return errTaken
		} else if err := c.claim(ctx, id.UserID(row.MXID), row.Gatekeeper, result.Identifier); err != nil {
			return err
		} else {
			row.Identifier = result.Identifier
		}
	}
	return c.db.Do(ctx, func(ctx context.Context) error {
		if err := c.db.Accounts().Put(ctx, row); err != nil || row.Identifier == asked {
			return err
		}
		return c.db.Accounts().PutAlias(ctx, row, asked)
	})
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
func (l *loginProcess) enlistmentWords(err error) error {
	w, gatekeeper := l.words, l.agreed.profile.DisplayName
	if errors.Is(err, errTaken) {
		return w.Error("login.taken", "contact", l.connector.contact(w))
	}
	var refused *interop.EnlistError
	if !errors.As(err, &refused) {
		return w.Error("error.wrong")
	}
	switch refused.Reason {
	case interop.EnlistBlocked:
		return w.Error("enlist.blocked", "gatekeeper", gatekeeper)
	case interop.EnlistNotAllowed:
		return w.Error("enlist.not-allowed", "gatekeeper", gatekeeper)
	case interop.EnlistBadIntegrator, interop.EnlistBadToken, interop.EnlistBadParam, interop.EnlistMissingParam, interop.EnlistOldVersion:
		return w.Error("enlist.our-fault", "gatekeeper", gatekeeper, "reason", refused.Reason)
	case interop.EnlistUnavailable, interop.EnlistNoAnswer, interop.EnlistHTTP, interop.EnlistNotJSON:
		return w.Error("enlist.away", "gatekeeper", gatekeeper, "reason", refused.Reason)
	}
	return w.Error("enlist.refused", "gatekeeper", gatekeeper, "reason", refused.Reason)
}
