// The way into the local folder: descriptors below it that no symlink has led astray, and nodes of what is there.
// Everything here blocks.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <kj/io.h>

#include <capstan/base/error.h>
#include <capstan/sync/node.h>

namespace capstan::sync {

// Opens the folder itself, for reading. Symlinks in its own path are the user's, and are followed. Errors: notFound,
// notDirectory, denied.
Result<kj::AutoCloseFd> openLocalFolder(const std::string& folder);

// Opens what is at a path below `root` with open(2)'s `flags`; a symlink anywhere on the way, or at its end, is an
// error (ELOOP, ENOTDIR) and never followed. "" is the root. A descriptor, or none and errno.
kj::AutoCloseFd openBelow(int root, std::string_view path, int flags);

// Whether errno says that there is nothing at the path (a folder on the way may be gone or be something else by now).
bool saysAbsent(int number);

// fstatat of a path below the root, of the thing itself if it is a symlink. 0, or an errno.
int statBelow(int root, std::string_view path, struct stat& status);

// Which folder this is: another one if it was replaced, or another disk is mounted there.
std::string rootIdOf(const struct stat& status);

// `settled`: whether the stamp was old enough when it was read. Without digest; `target` for symlinks only.
Node nodeFrom(const struct stat& status, bool settled, std::string target = {});

// The target of the symlink at a path below the root. An errno through `error` if it cannot be read.
std::optional<std::string> targetBelow(int root, std::string_view path, int& error);

// One path as a node, or nothing if nothing is there. Special files have type OTHER.
Result<std::optional<Node>> nodeBelow(int root, const std::string& path);

}  // namespace capstan::sync
