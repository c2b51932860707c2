// A Root for a folder somewhere in the served one: what holds a part of the tree is given this, and reaches nothing
// else. The folder is found anew by its path at each use, so that it may be moved away and come again.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <capstan/storage/root.h>

namespace capstan::storage {

// The served folder's Root must outlive it; `outer` may be such a one itself. Its path is followed through real folders
// only: a symlink in it is as if there was nothing (notFound), since whoever may change what is above could turn it to
// anywhere. Symlinks below that lead out of the folder are invalidPath, wherever they lead. fd() and stateFd() may not
// be called.
std::unique_ptr<Root> newRootBeneath(const Root& outer, std::string_view path);

// The path of what is at `path`, which is at or below `folder`, as it is seen from there: ("a/b/c", "a") -> "b/c".
std::string pathBeneath(std::string_view path, std::string_view folder);

}  // namespace capstan::storage
