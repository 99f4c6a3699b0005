// What is answered over plain HTTP. A value.
#pragma once

#include <string>

namespace mesh {

struct HttpReply {
  int status = 200;
  std::string body;
  std::string content_type = "text/plain";
};

}  // namespace mesh
