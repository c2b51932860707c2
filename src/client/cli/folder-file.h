// Files that the configuration of the current folder names. It may name the folder's own: whoever can write to the
// folder has written those too, while a file elsewhere may be somebody's secret.
#pragma once

#include <string>

#include <capstan/base/error.h>

namespace capstan::cli {

// Whether the path is below the folder as it is written: relative, without "..". Pure.
bool isFolderPath(const std::string& path);

// The whole of a regular file below the current folder. Symlinks are followed as long as they stay below it (without
// openat2, none are). Errors: invalidPath where they do not, tooLarge, and what reading
// says.
Result<std::string> readFolderFile(const std::string& path, size_t limit);

}  // namespace capstan::cli
