// How much the files in a folder hold: what counts against a quota. Sizes as they are seen, holes included.
#pragma once

#include <cstdint>
#include <string>

#include <capstan/storage/root.h>

namespace capstan::storage {

// All files at and below `name` in `folder`, whatever its depth; a file with several names counts once. What may not be
// read is left out. Blocks, for long where there is much.
uint64_t contentIn(int folder, const std::string& name);

// Of the file at this path; 0 for everything else, and for what is not there. Blocks.
int64_t contentAt(const Root& root, const std::string& path);

}  // namespace capstan::storage
