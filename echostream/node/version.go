package node

import "runtime/debug"

// versionOf names the build: as the bridge says, the module's version, or the commit it was built from.
func versionOf(bridge string) string {
	if bridge != "" {
		return bridge
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return "(devel)"
}
