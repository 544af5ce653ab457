// Where images come from: the camera, a video file, a picture.

const REFUSED = {
  NotAllowedError: "The camera was refused: allow it in the browser's settings of this page, then try again.",
  NotFoundError: "There is no camera here: choose a picture or a video file.",
  OverconstrainedError: "There is no camera here: choose a picture or a video file.",
  NotReadableError: "The camera cannot be read: another program may be using it.",
};

/** Open the camera that looks `facing` "environment" (back) or "user" (front): a MediaStream. */
export async function openCamera(facing) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw Error(
      self.isSecureContext
        ? "This browser gives no camera: choose a picture or a video file."
        : "The browser gives the camera only to https:// and http://localhost: choose a picture, or connect " +
          "the phone by cable (adb reverse) and open http://localhost here.",
    );
  }
  const video = { facingMode: facing, width: { ideal: 640 }, height: { ideal: 480 } };
  try {
    return await navigator.mediaDevices.getUserMedia({ video, audio: false });
  } catch (error) {
    throw Error(REFUSED[error.name] ?? `The camera does not open (${error.message}).`);
  }
}

/** Whether there are several cameras to switch between. */
export async function hasSeveralCameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter(({ kind }) => kind === "videoinput").length > 1;
}

/** Show a MediaStream or a file in a <video>; ends when its first frame is there. */
export async function play(video, source) {
  if (source instanceof MediaStream) video.srcObject = source;
  else video.src = URL.createObjectURL(source);
  try {
    await video.play();
  } catch (error) {
    if (error.name !== "AbortError") throw Error(`${source.name ?? "The video"} cannot be played in this browser.`);
  }
}

/** Let go of what a <video> shows. */
export function release(video) {
  video.pause();
  video.srcObject?.getTracks().forEach((track) => track.stop());
  if (video.src) URL.revokeObjectURL(video.src);
  video.srcObject = null;
  video.removeAttribute("src");
}

/** Wait for the next frame of a playing <video>. */
export function nextFrame(video) {
  return new Promise((resolve) => {
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(resolve);
    else requestAnimationFrame(resolve);
  });
}
