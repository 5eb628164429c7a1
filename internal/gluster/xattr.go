package gluster

import "strings"

// Internal says whether an extended attribute is one of Gluster's own, or of the file system below, or of georep, which are not
// mirrored.
func Internal(name string) bool {
	for _, prefix := range []string{
		"trusted.gfid", "trusted.pgfid.", "trusted.glusterfs.", "trusted.afr.", "trusted.ec.", "trusted.bit-rot.", "trusted.SGI_", "trusted.tier.",
		"trusted.overlay.", "glusterfs.", "system.glusterfs.", "user.georep.",
	} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	if name == "security.selinux" {
		return true // each host's own
	}
	return strings.HasPrefix(name, "system.") && name != "system.posix_acl_access" && name != "system.posix_acl_default"
}
