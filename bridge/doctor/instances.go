package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"

	"postern/connector"
	"postern/connector/issuer"
	"postern/database"
)

// lookAtInstances: whether the instances of the bridge share what they have to, and reach each other.
func lookAtInstances(ctx context.Context, e *examination) []Result {
	i := &e.Network.Instances
	switch {
	case i.Name == "":
		return fine("this bridge is the only one")
	case !e.postgres():
		return fail("there are several instances, and the database is not Postgres", "set database.type to postgres, with a schema for each instance (search_path in database.uri)")
	case e.base == nil:
		return skip("there is no database that can be looked at")
	}
	key := e.beside(i.KeyFile)
	if _, err := database.LoadKeyFile(key); errors.Is(err, fs.ErrNotExist) {
		return warn("there is no key for what the instances share at "+key, "start one of the instances, which makes it, and give the same file to all others")
	}
	sharing, err := e.Network.OpenSharing(ctx, e.Config.Database.URI, e.Dir)
	switch {
	case errors.Is(err, connector.ErrNeverRun):
		return fine("no instance has run yet; the first start makes the schema %s", i.Schema)
	case errors.Is(err, database.ErrSharedKey):
		return fail(key+" is not the key file of the other instances", "give all instances the same file in network.instances.key_file")
	case err != nil:
		return fail("what the instances share cannot be read: "+errText(err), "let network.instances.key_file be readable for the bridge's user, and let that user use the schema "+i.Schema)
	}
	e.sharing = sharing
	joined, err := sharing.Instances(ctx)
	if err != nil {
		return fail("what the instances share cannot be read: "+errText(err), "let the bridge's user use the schema "+i.Schema)
	}
	for _, one := range joined {
		if !slices.Contains(i.All, one.Name) {
			return warn(fmt.Sprintf("the instance %q has joined, and is not in network.instances.all", one.Name), "let network.instances.all have the same names everywhere")
		}
		if one.Name == i.Name {
			continue
		}
		if r, err := ask(ctx, http.MethodGet, one.Address+issuer.PathJWKS, "", nil); err != nil || r.status != http.StatusOK {
			return warn(fmt.Sprintf("the instance %q does not answer where it says that it is", one.Name),
				"see whether it runs, and whether its network.instances.address can be reached from here: until then nothing that it alone has can be passed on")
		}
	}
	return fine("%s, one of %d instances, of which %d have joined", i.Name, len(i.All), len(joined))
}
