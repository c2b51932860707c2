// Deletes a folder with all that is in it, however deep, with two descriptors.
#pragma once

#include <atomic>
#include <functional>
#include <string>

namespace capstan::storage {

// Deletes what is at `name` in `folder`. A tree's inner folders are moved up into `folder` under names from `newName`,
// so that neither depth nor length of paths matters. Symlinks are deleted, not followed. False if something
// could not be deleted (it is left there) or `stop` became true. Blocks.
bool deleteTree(int folder, const std::string& name, const std::function<std::string()>& newName,
                const std::atomic<bool>& stop);

}  // namespace capstan::storage
