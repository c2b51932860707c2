// The commit of staged content: it becomes the file at its path.
#pragma once

#include <memory>

#include <capstan/storage/mutation.h>
#include <capstan/storage/staged-file.h>

namespace capstan::storage {

struct PlaceFile {
  std::string path;
  Expectation expectation;
  Attributes attributes;
  bool makeParents = false;
  bool flushed = false;  // the staged content is durable already, with its attributes
};

// The attributes must have been set by setStagedAttributes(). The file's endCommit() is called when it is over; after
// an error (conflict and so on) the staged content is as it was, and may be committed again.
std::unique_ptr<Mutation> makePlaceFile(std::shared_ptr<StagedFile> file, PlaceFile options);

// Content that came whole, checked and staged with its attributes; its descriptor is closed, where it can be opened
// again. Errors name the path. Blocks.
Result<std::shared_ptr<StagedFile>> stageWhole(Staging& staging, const std::string& path, const Attributes& attributes,
                                               std::string_view content, const ContentCheck& check);

// Mode and time for content that is written whole. Under a Use or by the only owner.
Status setStagedAttributes(const StagedFile& file, const Attributes& attributes);

}  // namespace capstan::storage
