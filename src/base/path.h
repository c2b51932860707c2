// The rules for paths inside a served tree, as `Path` in schema/common.capnp states them. Paths are bytes. Pure
// functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <capstan/base/error.h>

namespace capstan {

inline constexpr size_t MAX_PATH_BYTES = 4096;
inline constexpr size_t MAX_NAME_BYTES = 255;
inline constexpr std::string_view STATE_FOLDER = ".capstan";  // the server's own, directly under the root

// Ok, or invalidPath with a sentence that says which rule is broken. Does not look at STATE_FOLDER.
Status validatePath(std::string_view path);

// Whether the path names STATE_FOLDER or something in it.
bool isReserved(std::string_view path);

// "a/b/c" -> "a/b"; "a" -> "".
std::string_view parentOf(std::string_view path);
// "a/b/c" -> "c"; "" -> "".
std::string_view baseNameOf(std::string_view path);
// join("", "a") = "a", join("a", "b") = "a/b", join("a", "") = "a".
std::string joinPath(std::string_view folder, std::string_view name);
// The names of a valid path, as views into it; none for "".
std::vector<std::string_view> splitPath(std::string_view path);
// Whether `path` is `folder` or lies in it.
bool isWithin(std::string_view path, std::string_view folder);

// The order of recursive listings: by components, each by its bytes, a folder before what is in it.
// Negative, 0 or positive like strcmp.
int comparePaths(std::string_view a, std::string_view b);

}  // namespace capstan
