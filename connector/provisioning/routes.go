package provisioning

// Route is one request that there is.
type Route struct {
	Method, Path string
	// Scope is what a token needs for it.
	Scope string
	// Action is what it is called in the audit log, "" if it changes nothing.
	Action string
	// Login is the name of the part of the path that names a login, Process of that which names a login that is under way; "" for none.
	Login, Process string
}

// actionStart begins a login, whose id is in the answer.
const actionStart = "login-start"

// Routes are all requests that tokens are good for. What else the framework may have is not offered here.
var Routes = []Route{
	{Method: "GET", Path: "whoami", Scope: ScopeStatus},
	{Method: "GET", Path: "capabilities", Scope: ScopeStatus},
	{Method: "GET", Path: "logins", Scope: ScopeStatus},
	{Method: "GET", Path: "login/flows", Scope: ScopeStatus},
	{Method: "GET", Path: "contacts", Scope: ScopeContacts},
	{Method: "POST", Path: "search_users", Scope: ScopeContacts},
	{Method: "GET", Path: "resolve_identifier/{identifier}", Scope: ScopeContacts},
	{Method: "POST", Path: "create_dm/{identifier}", Scope: ScopeChats, Action: "start-chat"},
	{Method: "POST", Path: "login/start/{flow}", Scope: ScopeLogin, Action: actionStart},
	{Method: "POST", Path: "login/step/{process}/{step}/cancel", Scope: ScopeLogin, Action: "login-cancel", Process: "process"},
	{Method: "POST", Path: "login/step/{process}/{step}/{type}", Scope: ScopeLogin, Action: "login-step", Process: "process"},
	{Method: "POST", Path: "login/cancel/{process}", Scope: ScopeLogin, Action: "login-cancel", Process: "process"},
	{Method: "POST", Path: "logout/{login}", Scope: ScopeLogout, Action: "logout", Login: "login"},
}
