// How the server tells that a file, folder or symlink is another one than it was: versions made of what stat says.
#pragma once

#include <sys/stat.h>

#include <optional>

#include <capstan/base/entry.h>
#include <capstan/base/error.h>

namespace capstan::storage {

// Which inode it is: on one host, as long as something holds it.
struct FileId {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileId&) const = default;
};
inline FileId idOf(const struct stat& status) { return {status.st_dev, status.st_ino}; }

// Without path, cached and target.
Entry entryFrom(const struct stat& status);

// Entry.identity: never 0, the same after a rename.
uint64_t inodeIdentity(const struct stat& status);

// 16 bytes: XXH3-128 over inode, type, mode, size, mtime and ctime.
Version versionOf(const struct stat& status);

// Like versionOf, but only of what a rename leaves alone (not ctime): to recognise what came out of an exchange.
Version identityOf(const struct stat& status);

// Whether any change made from now on is sure to give another version: the last change is longer ago than the file
// system's clock ticks. Content that is remembered by version must have been settled when it was read.
bool isSettled(const struct stat& status);

// Ok if `found` (nothing: there is nothing at the path) is what was expected; else exists, notFound or conflict.
Status checkExpectation(const Expectation& expectation, const std::optional<struct stat>& found,
                        const std::string& path);

}  // namespace capstan::storage
