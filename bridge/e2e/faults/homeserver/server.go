package homeserver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"sync"
	"time"

	"gopkg.in/yaml.v3"
)

// Server is one homeserver. Its methods may be called from any goroutine.
type Server struct {
	name   string
	prefix string // of event and room ids, so that those of two servers differ
	routes *http.ServeMux

	front sync.Mutex // over what follows
	addr  string
	http  *http.Server

	mu          sync.Mutex
	users       map[string]*user // by Matrix ID
	tokens      map[string]*user
	rooms       map[string]*room
	aliases     map[string]string // alias -> room id
	stream      []*Event          // everything that was ever sent, in order; Event.Pos is the index
	txns        map[string]string // user, place and transaction id -> event id
	services    []*service
	media       map[string]*blob
	changed     chan struct{} // closed and replaced at each change
	faults      []*Fault
	seen        []Seen
	lastPassing int64          // number of the last ephemeral event
	unknown     map[string]int // requests for what is not there, by method and path pattern
	pushing     bool           // transactions are handed over
	idle        chan struct{}  // closed and replaced when a pusher comes to rest
}

type user struct {
	id       string
	password string
	name     string // of the profile
	avatar   string
	service  *service // whose user it is, nil for a person
	token    string
	data     map[string][]byte // account data
}

type blob struct {
	kind string
	data []byte
}

// service is an appservice.
type service struct {
	ID       string `yaml:"id"`
	URL      string `yaml:"url"`
	ASToken  string `yaml:"as_token"`
	HSToken  string `yaml:"hs_token"`
	Sender   string `yaml:"sender_localpart"`
	Receives bool   `yaml:"receive_ephemeral"`
	Spaces   struct {
		Users []struct {
			Regex string `yaml:"regex"`
		} `yaml:"users"`
	} `yaml:"namespaces"`

	users  []*regexp.Regexp
	bot    string
	push   *pusher
	cancel context.CancelFunc
}

// Start listens on a free port of loopback.
func Start(name string) (*Server, error) {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	s := &Server{
		name: name, prefix: hex.EncodeToString(random[:]), users: map[string]*user{}, tokens: map[string]*user{}, rooms: map[string]*room{},
		aliases: map[string]string{}, txns: map[string]string{}, media: map[string]*blob{}, changed: make(chan struct{}),
		unknown: map[string]int{}, pushing: true, idle: make(chan struct{}),
	}
	s.routes = s.handlers()
	return s, s.Up()
}

// Name is the server's name, the part of Matrix IDs behind the colon.
func (s *Server) Name() string { return s.name }

// URL is where the client API is, without a slash at the end.
func (s *Server) URL() string {
	s.front.Lock()
	defer s.front.Unlock()
	return "http://" + s.addr
}

// Up listens again after Down, at the same address.
func (s *Server) Up() error {
	s.front.Lock()
	defer s.front.Unlock()
	if s.http != nil {
		return nil
	}
	addr := s.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	socket, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("starting the scripted homeserver: %w", err)
	}
	s.addr = socket.Addr().String()
	s.http = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 30 * time.Second}
	go func(h *http.Server) { _ = h.Serve(socket) }(s.http) // ends with Down
	s.mu.Lock()
	s.pushing = true
	s.wake()
	s.mu.Unlock()
	return nil
}

// Down ends every connection and listens no more: the homeserver is gone. It remembers everything.
func (s *Server) Down() {
	s.mu.Lock()
	s.pushing = false
	s.wake()
	s.mu.Unlock()
	s.front.Lock()
	defer s.front.Unlock()
	if s.http != nil {
		_ = s.http.Close() // nobody is told anything any more
		s.http = nil
	}
}

// Close ends the server for good.
func (s *Server) Close() {
	s.Down()
	s.mu.Lock()
	services := s.services
	s.mu.Unlock()
	for _, a := range services {
		a.cancel()
		<-a.push.ended
	}
}

// ForgetTransactions loses the memory of transaction ids, as Synapse does at a restart for users without a device.
func (s *Server) ForgetTransactions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.txns)
}

// AddServices is AddService for registrations in files.
func (s *Server) AddServices(registrations []string) error {
	for _, path := range registrations {
		raw, err := os.ReadFile(path)
		if err == nil {
			err = s.AddService(raw)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// AddService registers an appservice from the text of its registration file.
func (s *Server) AddService(registration []byte) error {
	a := &service{}
	if err := yaml.Unmarshal(registration, a); err != nil {
		return fmt.Errorf("reading a registration: %w", err)
	}
	for _, space := range a.Spaces.Users {
		pattern, err := regexp.Compile("^(?:" + space.Regex + ")$")
		if err != nil {
			return fmt.Errorf("reading a registration: %w", err)
		}
		a.users = append(a.users, pattern)
	}
	a.bot = "@" + a.Sender + ":" + s.name
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	a.push = newPusher(s, a)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services = append(s.services, a)
	s.users[a.bot] = &user{id: a.bot, service: a, data: map[string][]byte{}}
	go a.push.run(ctx)
	return nil
}

// owns says whether a Matrix ID is the appservice's.
func (a *service) owns(id string) bool {
	if id == a.bot {
		return true
	}
	for _, pattern := range a.users {
		if pattern.MatchString(id) {
			return true
		}
	}
	return false
}

// wake tells everybody who waits that something has changed; s.mu is held.
func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Unknown lists the requests for endpoints that this server does not have, with how often each came.
func (s *Server) Unknown() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]int, len(s.unknown))
	for k, n := range s.unknown {
		out[k] = n
	}
	return out
}
