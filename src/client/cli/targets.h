// Where `put`, `get`, `mv` and `cp` write to: the rules by which a source and a target as typed become the path of what
// is made. As cp has them, with the addition that a target which ends in '/' is a folder even if it is not there yet.
// Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <capstan/base/error.h>

namespace capstan::cli {

// A remote path as typed. "/", "." and "./" name the served folder itself; slashes at the end are taken off. Everything
// else is left to the server to judge.
std::string remotePath(std::string_view typed);

// A source of `put` or `get` as typed, taken apart: "a/b/" is "a/b" with the name "b"; "a/.", ".", "..", "/" and ""
// have no name: they stand for the content of the folder, which goes to the target itself.
struct Source {
  std::string path;
  std::string name;
};
Source localSource(std::string_view typed);
Source remoteSource(std::string_view typed);

// Where a symlink at `path` leads, as a remote path; nothing where it is absolute or leads out of the tree. By the
// names alone: a symlink on the way may lead elsewhere.
std::optional<std::string> destinationOf(std::string_view path, std::string_view target);

// Whether the target as typed names a folder whatever is there: it ends in '/', or in "/.", or is one of ".", "..", "".
bool namesFolder(std::string_view typed);

enum class TargetKind { MISSING, FOLDER, OTHER };

// The path to write `source` to. `target` is the path without trailing slashes, `kind` what is there now. `several`:
// there are more sources than one, so that the target has to be a folder. Errors: notDirectory.
Result<std::string> targetFor(const Source& source, std::string_view target, bool asFolder, TargetKind kind,
                              bool several);

}  // namespace capstan::cli
