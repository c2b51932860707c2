// The files with ignore rules, as they are in the local folder.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <capstan/base/error.h>

namespace capstan::sync {

// The text of a folder's ignore file, or nothing where there is none: no file, or a symlink. Blocks. An Error wherever
// there may be one that cannot be read: without its rules, everything that they keep away would be sent.
Result<std::optional<std::string>> readIgnoreFile(const std::string& root, std::string_view folder);

}  // namespace capstan::sync
