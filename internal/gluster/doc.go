// Package gluster knows what a Gluster installation says and offers: identities, volumes and their bricks, and mounts by which objects are
// reached by their GFID.
package gluster
