// The changes to the tree that need no content from the client: folders, symlinks, metadata, rename, remove, and the
// last step of a copy. Each is carried out by the committer in one step; what they mean is in schema/files.capnp.
#pragma once

#include <memory>
#include <string>

#include <capstan/base/entry.h>
#include <capstan/storage/mutation.h>

namespace capstan::storage {

std::unique_ptr<Mutation> makeMakeDirectory(std::string path, Attributes attributes, bool parents);

struct SymlinkOptions {
  std::string path;
  std::string target;
  Expectation expectation;
  Attributes attributes;
  bool makeParents = false;
};
std::unique_ptr<Mutation> makeSymlink(SymlinkOptions options);

std::unique_ptr<Mutation> makeSetMetadata(std::string path, Attributes attributes, Expectation expectation);

struct RenameOptions {
  std::string from;
  std::string to;
  Expectation fromExpectation;
  Expectation toExpectation;
  bool makeParents = false;
};
std::unique_ptr<Mutation> makeRename(RenameOptions options);

std::unique_ptr<Mutation> makeRemove(std::string path, bool recursive, Expectation expectation);

// Names to the round the folders that locate(path, true) has made on the way, as touched and as created.
void tellMade(Round& round, Root::Place& place, const std::string& path);

}  // namespace capstan::storage
