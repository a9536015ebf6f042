#!/bin/sh
# What people expect of a bridge's image: the first start writes the example
# configuration, the second the registration, every later one runs the bridge.
# With arguments the program runs with those instead.
set -eu
if [ "$#" -gt 0 ]; then
	exec /usr/bin/postern "$@"
fi
if [ ! -f /data/config.yaml ]; then
	/usr/bin/postern -e -c /data/config.yaml
	echo "Wrote an example configuration to /data/config.yaml. Set the five things at its top, then start again."
	exit 0
fi
if [ ! -f /data/registration.yaml ]; then
	/usr/bin/postern -g -c /data/config.yaml -r /data/registration.yaml
	echo "Wrote /data/registration.yaml. Add it to your homeserver's appservices, restart that, then start again."
	exit 0
fi
exec /usr/bin/postern -c /data/config.yaml
