// How much the files in a folder hold: what counts against a quota. Sizes as they are seen, holes included; and for
// each file, folder and symlink at least what it takes of the disk, so that many small ones count too.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>

#include <capstan/storage/root.h>

namespace capstan::storage {

inline constexpr uint64_t LEAST_CHARGE = 4096;

// One thing, without what may be in it.
uint64_t chargeOf(const struct stat& status);

// All at and below `name` in `folder`, whatever its depth; a file with several names counts once. What may not be read
// is left out. Blocks, for long where there is much.
uint64_t contentIn(int folder, const std::string& name);

// What is at this path, without what may be in it; 0 if nothing is there. Blocks.
int64_t contentAt(const Root& root, const std::string& path);

// The folders that have to be made before something can be at this path. Blocks.
int64_t parentsFor(const Root& root, const std::string& path);

}  // namespace capstan::storage
