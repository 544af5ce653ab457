// Not compiled where it was written: see README.md.
package keras_parc.sample

import android.Manifest
import android.graphics.Bitmap
import android.graphics.Matrix
import android.os.Bundle
import android.os.SystemClock
import android.widget.FrameLayout
import android.widget.ImageView
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.core.content.ContextCompat
import java.util.concurrent.Executors

/** Shows the camera, frame by frame, with what the model finds. */
class MainActivity : ComponentActivity() {
    private val thread = Executors.newSingleThreadExecutor()
    private lateinit var picture: ImageView
    private lateinit var words: TextView
    private lateinit var model: Model

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        picture = ImageView(this)
        words = TextView(this).apply {
            textSize = 18f
            setPadding(32, 64, 32, 32)
        }
        setContentView(FrameLayout(this).apply {
            addView(picture)
            addView(words)
        })
        val ask = registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
            if (granted) openCamera() else words.text = "The camera was refused: allow it in the settings."
        }
        try {
            model = openModel(this)
        } catch (error: RuntimeException) {
            words.text = "MediaPipe cannot open model.tflite: ${error.message}"
            return
        }
        ask.launch(Manifest.permission.CAMERA)
    }

    private fun openCamera() {
        val coming = ProcessCameraProvider.getInstance(this)
        coming.addListener({
            val frames = ImageAnalysis.Builder()
                .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
                .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
                .build()
            frames.setAnalyzer(thread, ::look)
            try {
                coming.get().bindToLifecycle(this, CameraSelector.DEFAULT_BACK_CAMERA, frames)
            } catch (error: IllegalArgumentException) {
                words.text = "There is no back camera here: ${error.message}"
            }
        }, ContextCompat.getMainExecutor(this))
    }

    private fun look(frame: ImageProxy) {
        val image = frame.use { upright(it.toBitmap(), it.imageInfo.rotationDegrees) }
        val start = SystemClock.elapsedRealtime()
        val found = model.look(image)
        val milliseconds = SystemClock.elapsedRealtime() - start
        runOnUiThread {
            picture.setImageBitmap(found.picture)
            words.text = (found.lines + "$milliseconds ms").joinToString("\n")
        }
    }

    private fun upright(image: Bitmap, degrees: Int): Bitmap {
        val turn = Matrix().apply { postRotate(degrees.toFloat()) }
        return Bitmap.createBitmap(image, 0, 0, image.width, image.height, turn, true)
    }

    override fun onDestroy() {
        super.onDestroy()
        thread.shutdown()
    }
}
