# SPDX-License-Identifier: MIT
# What puma serves: the files of $WEB_ROOT.
run lambda { |env|
  path = File.join(ENV["WEB_ROOT"], File.basename(env["PATH_INFO"]))
  body = File.binread(path)
  [200, { "content-type" => "application/octet-stream", "content-length" => body.bytesize.to_s }, [body]]
}
