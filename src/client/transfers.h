// The four transfers that the Client offers, behind its methods: see client.h and transfer-types.h.
#pragma once

#include <string>

#include <capstan/client/links.h>
#include <capstan/client/transfer-types.h>

namespace capstan::client {

kj::Promise<Result<Entry>> readTo(Links& links, std::string path, ByteConsumer& sink, uint64_t offset, uint64_t count,
                                  Progress* progress);
kj::Promise<Result<Entry>> writeFrom(Links& links, ByteProducer& source, std::string path, UploadSettings settings,
                                     Progress* progress);
kj::Promise<Result<TransferSummary>> uploadPath(Links& links, std::string localPath, std::string remotePath,
                                                UploadSettings settings, Progress* progress);
kj::Promise<Result<TransferSummary>> downloadPath(Links& links, std::string remotePath, std::string localPath,
                                                  DownloadSettings settings, Progress* progress);

}  // namespace capstan::client
