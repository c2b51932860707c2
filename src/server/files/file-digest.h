// The digest of a stored file's whole content, computed on the pool a slice at a time.
#pragma once

#include <memory>
#include <string>

#include <kj/async.h>

#include <capstan/base/entry.h>
#include <capstan/server/files/folder-state.h>
#include <capstan/server/files/open-file.h>

namespace capstan::server::files {

struct FileDigest {
  std::string value;
  Entry entry;  // as the file was all the while
};

// Precondition: the algorithm is not UNSET. Dropping the promise stops it after the slice being worked on. `changed` if
// the file's version is another one at the end. `folder` and `scope` must outlive the promise.
kj::Promise<Result<FileDigest>> digestFile(FolderState& folder, ConnectionScope& scope,
                                           std::shared_ptr<const OpenFile> file, DigestAlgorithm algorithm);

}  // namespace capstan::server::files
